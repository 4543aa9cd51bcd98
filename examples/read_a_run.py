# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Read a run
#
# What a training leaves behind, read with the standard library. Set `run` to a folder of yours, such as
# `logs/latest`; without one a small run is made here.

# %%
import csv
import json
from pathlib import Path

run = Path("logs/latest")
if not (run / "metrics.json").is_file():
    from mambavision_lab import compose, train

    small = ["data.num_train=320", "data.num_val=100", "trainer.max_epochs=2"]
    train(compose("train", [*small, "callbacks.progress_bar.refresh_rate=0"]))
print(*sorted(path.name for path in run.iterdir()), sep="\n")

# %% [markdown]
# ## What came out
#
# `metrics.json` has the final metrics of the best checkpoint, `metrics.csv` a row per step and epoch.

# %%
for name, value in json.loads((run / "metrics.json").read_text()).items():
    print(f"{name:24} {value:.4g}")

# %%
with (run / "metrics.csv").open() as file:
    rows = [row for row in csv.DictReader(file) if row.get("val/acc1")]
for row in rows[:-1]:  # the last one is the best checkpoint's, validated again at the end
    print(f"epoch {int(row['epoch']) + 1}: validation accuracy {float(row['val/acc1']):.1%}")

# %%
from mambavision_lab import plot_training_curves

plot_training_curves(str(run), output=str(run / "curves.png"))
print(f"{run / 'curves.png'} written; {run / 'report.html'} has the rest")

# %% [markdown]
# ## How it was made
#
# The command, the commit and the versions; the whole config is in `config.yaml`.

# %%
provenance = json.loads((run / "provenance.json").read_text())
for name, value in provenance.items():
    print(f"{name:12} {str(value)[:90]}")

# %% [markdown]
# ## The network itself

# %%
from mambavision_lab import MambaVisionInference

net = MambaVisionInference(str(run))
print(net.require_class_names())
print(sum(parameter.numel() for parameter in net.net.parameters()), "parameters")
