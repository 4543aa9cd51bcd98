# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Train in Python, in 20 lines
#
# Compose a config as the command line does, train, evaluate, and classify an image. Change `overrides` as you
# would change a command; `python train.py --help` lists the choices.

# %%
from mambavision_lab import MambaVisionInference, compose, create_datamodule, evaluate, train

overrides = ["data=synthetic", "trainer.max_epochs=3", "callbacks.progress_bar.refresh_rate=0"]
cfg = compose("train", overrides)  # checked: a typo is refused here, in one line
accuracy = train(cfg)
print(f"validation accuracy {accuracy:.1%}")

# %% [markdown]
# The run has a folder with its checkpoints, metrics and a report.

# %%
run = cfg.paths.output_dir
print(f"test accuracy {evaluate(compose('eval', [f'from_run={run}'])):.1%}")

# %% [markdown]
# The trained network with its preprocessing: an image in, class names and probabilities out.

# %%
from torchvision.transforms.v2.functional import to_pil_image

image, label = create_datamodule("synthetic").splits.test[0]
net = MambaVisionInference(run)
print(
    net.predict(to_pil_image(image), top_k=3), "true class:", net.require_class_names()[int(label)]
)
