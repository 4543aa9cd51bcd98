from mambavision_lab.errors import ConfigError, first_line, reason


def test_reason_is_one_line_and_never_empty():
    assert reason(ValueError("two\n  lines")) == "two lines"
    assert reason(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert reason(ValueError("x" * 500), max_length=10) == "x" * 10


def test_config_error_of_a_loader_worker_is_the_message_alone():
    text = (
        "Caught ConfigError in DataLoader worker process 0.\nTraceback ...\nx.ConfigError: a: bad"
    )
    assert str(ConfigError(text)) == "a: bad"


def test_first_line_of_a_message_is_one_line_and_never_empty():
    assert first_line(ValueError("  a \t b\nc")) == "a b"
    assert first_line(ValueError("")) == "ValueError"
