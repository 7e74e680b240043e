"""The folders of a sweep's jobs, named after what is changed in each."""

from hashlib import sha256

from omegaconf import OmegaConf

_LONGEST = 200  # bytes; file systems take 255


def job_folder(overrides: str) -> str:
    """Return the overrides as they are, or, where they are too long for a name, their beginning.

    Different overrides have different names.
    """
    name = overrides.encode()
    if len(name) <= _LONGEST:
        return overrides
    return f"{name[:_LONGEST].decode(errors='ignore')}-{sha256(name).hexdigest()[:12]}"


# When this is imported, not when a job starts: launchers name folders in processes of their own.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
