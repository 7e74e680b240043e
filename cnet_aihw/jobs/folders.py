"""The folders of a sweep's jobs, named after what is changed in each."""

from hashlib import sha256

from omegaconf import OmegaConf

_LONGEST = 200  # bytes; file systems take 255


def job_folder(overrides: str) -> str:
    """Return the overrides as they are, where they can be a name, or what of them can.

    Slashes become underscores, and only the beginning of a long text is taken. Different overrides
    have different names.
    """
    name = overrides.replace("/", "_").encode()[:_LONGEST].decode(errors="ignore")
    if name == overrides:
        return overrides
    return f"{name}-{sha256(overrides.encode()).hexdigest()[:12]}"


# When this is imported, not when a job starts: launchers name folders in processes of their own.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
