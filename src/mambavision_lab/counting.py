"""Say how many there are of something."""


def counted(number: int, noun: str) -> str:
    """Put a number before a noun that is given in the plural: 1 image, 2 images, 1,000 images."""
    if number == 1:
        noun = noun[:-2] if noun.endswith(("ches", "sses")) else noun.removesuffix("s")
    return f"{number:,} {noun}"
