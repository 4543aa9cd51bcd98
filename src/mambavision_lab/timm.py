"""Make our networks known to timm: `import mambavision_lab.timm`, then `timm.create_model("mambavision_t")`.

`import mambavision_lab` alone does the same where timm was imported before it. (timm takes seconds to import,
and it has no entry points through which it could find us.)
"""

from mambavision_lab.models import timm_registry  # noqa: F401  (registers)
