import pytest
from composing import check

# Overrides -> what the answer must say.
MESSAGES = {
    "model=mambavision_smal": ["model=", "did you mean 'mambavision_small'?"],
    "trainer=gpus": ["trainer=gpus", "did you mean 'gpu'?"],
    "experiment=none_such": ["experiment=none_such", "it has ", "fashion_mnist_nano"],
    "seeed=3": ["seeed", "did you mean 'seed'?"],
    "+seeed=3": ["seeed"],
    "modle=mambavision_small": ["modle", "did you mean 'model'?"],
    "trainer.max_epoch=3": ["trainer.max_epoch:", "did you mean 'max_epochs'?"],
    "callbacks.checkpoint.monitr=x": ["callbacks.checkpoint.monitr:", "did you mean 'monitor'?"],
    "data=cifar10 data.batchsize=3": ["data.batchsize:", "did you mean 'batch_size'?"],
    "data.root=3": ["data.root:", "it has ", "num_train"],  # synthetic images have no root
    "+model.foo=1": ["model.foo: PlainMambaVision has no option 'foo'"],
    "+augment.shfit=1": ["augment.shfit", "did you mean 'shift'?"],
    "trainer.max_epochs=abc": ["trainer.max_epochs=abc: wanted int or None, got str 'abc'"],
    "model.depth=1.5": ["model.depth=1.5: wanted int"],
    "classifier.use_compile=1": ["classifier.use_compile=1: wanted bool"],
    "seed=abc": ["seed", "'abc'"],
    "seed=1.5": ["seed", "1.5"],
    "model.depth=???": ["model.depth is missing; give model.depth=VALUE"],
    "data=image_folder": ["data.root is missing; give data.root=VALUE"],
    "data=image_folder data.root=/no/such": ["data.root=/no/such: no such folder"],
    "data=image_folder data.root=null": ["data.root=null: wanted a folder"],
    "data=webdataset data.root=null": ["data.root=null: wanted a folder"],
    "data=hf data.root=null": ["data.root=null: wanted a folder"],
    "data=cifar10 data.root=null": ["data.root=null: wanted a folder"],
    "data=image_folder data.root={tmp}": ["{tmp}", "no class folders"],
    "trainer.max_epochs": ["trainer.max_epochs"],
    "model.depth=[1": ["[1"],
    "model.depth=1,2": ["model.depth=1,2"],
    "model.depth=${{data.dpeth}}": ["data.dpeth"],
    "optimizer._target_=torch.optim.adamw.AdmW": ["optimizer._target_", "'AdmW'"],
    "optimizer._target_=torch.optm.AdamW": ["optimizer._target_", "torch.optm"],
    "model._target_=null": ["model._target_"],
    "model=null": ["model"],
    "~model": ["model: is deleted"],
    "trainer.max_restarts=2": ["trainer.max_restarts: no such option; it is called launcher.max_"],
    "launcher.max_restarts=-1": ["launcher.max_restarts=-1: wanted 0 or more"],
    "launcher.max_restarts=x": ["launcher.max_restarts", "'x'"],
    "launcher.max_restarts=1.5": ["launcher.max_restarts", "1.5"],
    "launcher.max_restarts=null": ["launcher.max_restarts", "not Optional"],
    "-m sweep.n_trials=3": ["sweep.n_trials: no such option; it is called sweep.search.n_trials"],
    "-m sweep.devices_per_job=x": ["sweep.devices_per_job", "'x'"],
    "+callbacks=freeze": [
        "+callbacks=freeze: callbacks has a choice already; give callbacks=freeze"
    ],
    "model=nvidia/mambavision_tiny": [
        "model=nvidia/mambavision_tiny: no such choice; did you mean 'nvidia/mambavision_t'?"
    ],
    "-m hydra/launcher=zzz": ["hydra/launcher=zzz: no such choice; it has "],
    "+callbacks=x": ["callbacks=x: no such choice; it has default"],
    "callbacks=[x]": ["callbacks=x: no such choice; it has default"],
    "+callbacks.x=1": ["callbacks.x=1: wanted callbacks.x._target_=CLASS"],
    "++trainer=x": ["trainer"],
    "ops.selective_scan.backend=x": [
        "ops.selective_scan.backend=x: no such backend; choose auto, "
    ],
    "+ops.selective_scan.backends=x": ["ops.selective_scan.backends: no such option; did you mean"],
    "+trainer.logger=false": ["trainer.logger=False: would be ignored; choose with logger=none"],
    "+trainer.callbacks=[]": ["trainer.callbacks=[]: would be ignored; choose with callbacks=none"],
    "+classifier.num_classes=3": ["classifier.num_classes=3: would be ignored; set data.num_"],
    "trainer.gradient_clip_val=-1": ["trainer.gradient_clip_val=-1: wanted 0 or more"],
    "callbacks.predictions.num_images=-1": ["num_images=-1: wanted 0 or more"],
    "+trainer.max_time=10": ["trainer.max_time=10: wanted DD:HH:MM:SS, got int 10"],
    "+trainer.max_steps=6": [
        "+trainer.max_steps: is in the config already; give trainer.max_steps=VALUE without the +"
    ],
    "experiment=segmentation data=mask_folder data.root=/no/such": [
        "data.root=/no/such: there is no such folder; wanted one with images/ and masks/"
    ],
    "model.in_chans=2": ["model.in_chans=2, but the data have 3 channels; leave model.in_chans as"],
    "hydra.run.dir=???": ["hydra.run.dir is missing; give hydra.run.dir=VALUE"],
    "hydra.verbose=null": ["hydra.verbose=None: wanted true, false, or names of loggers"],
    "hydra.verbose={{a:1}}": ["hydra.verbose={{'a': 1}}: wanted true, false, or names of loggers"],
    "hydra.verbose=[1,2]": ["hydra.verbose=[1, 2]: wanted true, false, or names of loggers"],
    "hydra.verbose=${{nowhere}}": ["nowhere"],
    "~seed": ["seed: is deleted, and train.py needs it; leave out ~seed"],
    "~scheduler._target_": ["scheduler: has no _target_; choose one, such as scheduler=cosine"],
    "ckpt_path=/no/such.ckpt": ["ckpt_path=/no/such.ckpt: no such file"],
}


@pytest.mark.parametrize("command", MESSAGES)
def test_message_is_one_line_that_names_the_key(command, tmp_path, refusal):
    overrides = command.format(tmp=tmp_path).split()
    message = refusal(lambda: check("train", *overrides))
    for part in MESSAGES[command]:
        assert part.format(tmp=tmp_path) in message


@pytest.mark.parametrize(
    "command",
    [
        "",
        "seed=null",
        "seed=0",
        "optimizer.lr=1",
        "trainer.devices=[0,1]",
        "trainer.precision=16-mixed",
        "logger=[csv,tensorboard]",
        "+callbacks.checkpoint.every_n_epochs=2",
        "~callbacks.throughput",
        "augment=none logger=none callbacks=none scheduler=constant",
        "experiment=fashion_mnist_tiny trainer=cpu scheduler=constant",
        "hydra.verbose=[mambavision_lab]",
        "model.drop_path_rate=0 model.patch_size=4",
    ],
)
def test_what_is_right_is_not_refused(command):
    check("train", *command.split())
