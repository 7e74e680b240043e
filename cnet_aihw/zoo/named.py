"""Networks by name from timm, torchvision and Hugging Face; nothing is downloaded unasked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.records import read_json
from cnet_aihw.runtime.typed import checked

log = logging.getLogger(__name__)

_EXTRA = "pip install 'cnet_aihw[zoo]'"
_ANY_CONFIG = ("attn_implementation", "dtype", "torch_dtype")


@checked
def timm_model(
    name: str,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a network of timm by its name, such as ``vit_tiny_patch16_224``.

    Args:
        name: name as in ``timm.list_models()``.
        input_shape: (C, H, W) of the images; a network that is built for one size gets it. None:
            as the network is.
        classes: number of classes; None: as the network has it.
        pretrained: whether to take weights from the hub, over the network.
        options: further arguments of ``timm.create_model``, such as ``{patch_size: 4}``.

    Raises:
        CnetError: without timm, for an unknown name (with the nearest ones), and where the network
            cannot be built so.
    """
    timm = _library("timm", "timm")
    if name.partition(".")[0] not in (known := timm.list_models()):
        raise _unknown("timm", name, known)
    given: dict[str, Any] = dict(options or {})
    if input_shape is not None:
        given.setdefault("in_chans", int(input_shape[0]))
    if classes is not None:
        given.setdefault("num_classes", classes)
    sized = {} if input_shape is None else {"img_size": tuple(input_shape[1:])}

    def make(**more: Any) -> nn.Module:
        made: nn.Module = timm.create_model(name, pretrained=pretrained, **{**more, **given})
        return made

    try:
        try:
            made = make(**sized)
        except TypeError as error:
            if "img_size" not in str(error) or not sized:
                raise
            made = make()  # a network for any size of images
    except Exception as error:
        raise _not_built(f"timm's {name}", error) from error
    if pretrained:
        about = getattr(made, "pretrained_cfg", {})
        _say_normalisation(name, about.get("mean"), about.get("std"))
    return made


@checked
def torchvision_model(
    name: str,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a network of torchvision by its name, such as ``resnet18``.

    Args:
        name: name as in ``torchvision.models.list_models()``.
        input_shape: (3, H, W) of the images; vision transformers get their size. None: as it is.
        classes: number of classes; None: as the network has it.
        pretrained: whether to download torchvision's default weights, which have classes of their
            own.
        options: further arguments of the network. GoogLeNet and Inception v3 have no auxiliary
            classifiers, which serve a loss of their own alone, unless ``aux_logits`` says so.

    Raises:
        CnetError: for an unknown name (with the nearest ones), images without three channels or
            not square for a ViT, weights of another number of classes, and where the network
            cannot be built so.
    """
    models = _library("torchvision.models", "torchvision")
    known = models.list_models()
    if name not in known:
        raise _unknown("torchvision", name, known)
    given: dict[str, Any] = dict(options or {})
    if input_shape is not None:
        if len(input_shape) != 3 or int(input_shape[0]) != 3:
            raise bad_value("inputs.shape", list(input_shape), "images of three channels")
        if name.startswith("vit_"):
            if input_shape[1] != input_shape[2]:
                raise bad_value("inputs.shape", list(input_shape), "square images for a ViT")
            given.setdefault("image_size", int(input_shape[1]))
        if name.startswith("maxvit_"):
            given.setdefault("input_size", tuple(map(int, input_shape[1:])))
    if name in ("googlenet", "inception_v3"):
        given.setdefault("aux_logits", False)
    if pretrained and classes is not None:
        _check_categories(models, name, classes)
    if classes is not None:
        given.setdefault("num_classes", classes)
    if (
        not pretrained
        and "weights_backbone" in signature(models.get_model_builder(name)).parameters
    ):
        given.setdefault("weights_backbone", None)
    try:
        made: nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None, **given)
    except Exception as error:
        raise _not_built(f"torchvision's {name}", error) from error
    if pretrained:
        images = models.get_model_weights(name).DEFAULT.transforms()
        _say_normalisation(name, getattr(images, "mean", None), getattr(images, "std", None))
    return made


def _say_normalisation(name: str, mean: Any, std: Any) -> None:
    """Log the normalisation that pretrained weights expect; data have their own by default."""
    if mean is not None and std is not None:
        log.info(
            "the weights of %s were trained on images normalised with data.mean=%s data.std=%s; "
            "without these the data are normalised by their own training part",
            *(name, *(str([round(float(v), 4) for v in values]).replace(" ", "")
                      for values in (mean, std))),
        )  # fmt: skip


def _check_categories(models: Any, name: str, classes: int) -> None:
    """Refuse weights whose classes are not those of the data, which torchvision cannot change."""
    found = models.get_model_weights(name).DEFAULT.meta.get("categories")
    if found is not None and len(found) != classes:
        fix = (
            "choose model=timm, which takes weights for other classes, or model.pretrained=false "
            "to train from scratch"
        )
        raise bad_value("classes", classes, f"the {len(found)} of torchvision's weights", fix)


@checked
def huggingface_model(
    config: Mapping[str, Any] | str | None = None,
    path: str | None = None,
    head: str = "AutoModelForSequenceClassification",
    classes: int | None = None,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a network of Hugging Face transformers; outputs with ``.logits`` are understood.

    Args:
        config: configuration for a network with random weights: a mapping with ``model_type``, such
            as ``{model_type: gpt2, n_layer: 2}``, a model type alone, or the path of a config.json.
        path: folder with config.json and weights; or with ``pretrained``, a name on the hub.
        head: automatic class, such as ``AutoModelForCausalLM``.
        classes: number of classes (``num_labels``); None: as the configuration has it.
        pretrained: whether ``path`` may be taken from the hub, over the network.
        options: further entries of the configuration.

    Raises:
        CnetError: without transformers, unless just one of ``config`` and ``path`` is given, for a
            folder that does not exist, and where the network cannot be built so.
    """
    if (config is None) == (path is None):
        raise CnetError(
            "give either model.config (a network with random weights) or model.path (one with "
            "weights) of a Hugging Face model.",
            key="model.config",
            value=config,
            expected="either config or path",
        )
    transformers = _library("transformers", "transformers")
    automatic = getattr(transformers, head, None)
    if automatic is None or not head.startswith("AutoModel"):
        known = [one for one in dir(transformers) if one.startswith("AutoModel")]
        raise _unknown("transformers", head, known, "model.head")
    further: dict[str, Any] = dict(options or {})
    if classes is not None and "Classification" in head:
        further.setdefault("num_labels", classes)
    if path is not None:
        if not pretrained and not Path(path).is_dir():
            fix = "set model.pretrained=true to take a network of that name from the hub"
            raise bad_value("model.path", path, "a folder with config.json and weights", fix)
        made = _without_cache(_from_weights(automatic, path, pretrained, further))
        about = _preprocessing(transformers, path, pretrained)
        _say_normalisation(path, about.get("image_mean"), about.get("image_std"))
        return made
    described = _described(transformers, config)
    if not isinstance(config, str):  # files hold keys of other versions, too
        _check_entries(transformers, described, "model.config")
    _check_entries(transformers, {"model_type": described["model_type"], **further})
    try:
        kind = described.pop("model_type")
        settings = transformers.AutoConfig.for_model(kind, **{**described, **further})
        built: nn.Module = automatic.from_config(settings)
    except Exception as error:
        raise _not_built(f"the Hugging Face model {config}", error, "model.config") from error
    return _without_cache(built)


def _from_weights(
    automatic: Any, path: str, pretrained: bool, further: Mapping[str, Any]
) -> nn.Module:
    """Load a network, and name what of it is not among the weights."""
    made: nn.Module
    try:
        made, loaded = automatic.from_pretrained(
            path, local_files_only=not pretrained, output_loading_info=True, **further
        )
    except Exception as error:
        raise _not_built(f"the Hugging Face model {path}", error, "model.path") from error
    absent = sorted(loaded["missing_keys"])
    if absent and len(absent) >= len(list(made.parameters())):
        expected = "weights of the network that its config.json describes"
        raise bad_value("model.path", path, expected)
    if absent:
        log.warning(
            "%s has no weights for %s%s: they are random; train them before you measure",
            *(path, ", ".join(absent[:3]), " and others" if len(absent) > 3 else ""),
        )
    return made


def _preprocessing(transformers: Any, path: str, pretrained: bool) -> dict[str, Any]:
    """Return what lies beside weights about their images; nothing where they are of other data."""
    name = "preprocessor_config.json"
    try:
        found = transformers.utils.cached_file(path, name, local_files_only=not pretrained)
    except OSError:
        return {}
    about: dict[str, Any] = read_json(found)
    return about if about.get("do_normalize", True) else {}


def _without_cache(model: nn.Module) -> nn.Module:
    """Let a network return no keys and values for a next token, of which nobody here asks."""
    config: Any = model.config
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return model


def _described(transformers: Any, config: Any) -> dict[str, Any]:
    """Return the entries of a configuration, model_type among them."""
    if isinstance(config, str):
        if Path(config).is_file():
            found: dict[str, Any] = transformers.PretrainedConfig._dict_from_json_file(config)
        else:
            found = {"model_type": config}
    else:
        found = dict(config)
    if "model_type" not in found:
        raise bad_value("model.config", config, "a configuration with model_type, such as gpt2")
    known = list(transformers.CONFIG_MAPPING.keys())
    if found["model_type"] not in known:
        raise _unknown("transformers", found["model_type"], known, "model.config")
    return found


def _check_entries(
    transformers: Any, entries: Mapping[str, Any], key: str = "model.options"
) -> None:
    """Refuse what a configuration would only keep as an attribute that nothing reads."""
    kind = entries["model_type"]
    described = transformers.CONFIG_MAPPING[kind]
    try:
        defaults = described()
    except Exception:  # one that cannot stand alone
        return
    known = {name for name in dir(defaults) if not name.startswith("_")}
    known |= {*signature(described.__init__).parameters, *_ANY_CONFIG}
    for name in entries:
        if name not in known and not hasattr(defaults, name):  # it has names of older versions
            raise _unknown(f"the configuration of {kind}", name, sorted(known), f"{key}.{name}")


def _library(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise CnetError(
            f"{name} is not installed ({error}); networks by its names need it: {_EXTRA}.",
            key="model",
            value=name,
            fix=_EXTRA,
        ) from error


def _unknown(library: str, name: str, known: Sequence[str], key: str = "model.name") -> CnetError:
    near = get_close_matches(name, known, n=3, cutoff=0.0)
    return CnetError(
        f"{library} has no {name!r}; nearest: {', '.join(near)}.",
        key=key,
        value=name,
        expected=tuple(near),
    )


def _not_built(name: str, error: Exception, key: str = "model.options") -> CnetError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return CnetError(
        f"{name} cannot be built ({type(error).__name__}: {reason}); change {key} or the data.",
        key="model",
        value=name,
    )
