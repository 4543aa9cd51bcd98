"""A training run of a second."""

TRAIN = (
    "trainer=cpu trainer.max_epochs=1 scheduler.warmup_epochs=0 data.num_train=32 data.num_val=10 "
    "data.num_test=10 model.stem_dim=8 model.embed_dim=16 model.depth=2 model.num_heads=2"
).split()
