"""A checkpoint is one safetensors file (weights, moments), written atomically, with a checksum, never pickled."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from korbert.errors import ConfigError, DataError
from korbert.files import write_bytes_atomically
from korbert.training.settings import differences

_CHECKSUM = "checksum"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None) -> None:
    """Write tensors and a JSON-able `state` beside them; None for what transformers, version 4, wants there."""
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry: safetensors writes several in any order, and the same tensors would not be the same file. So the
    # checksum is in the state, not beside it.
    metadata = {"format": "pt"}
    if state is not None:
        metadata = {"state": json.dumps({**state, _CHECKSUM: _checksum(dense, state)})}
    write_bytes_atomically(path, save(dense, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, or somebody else, without a checksum then.

    Raises DataError where the file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(path, "file", "not found")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            state = json.loads(metadata.get("state", "{}"))
            wanted = state.pop(_CHECKSUM, None)
    except (SafetensorError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise DataError(path, "file", f"not a checkpoint, or damaged ({error})") from error
    if wanted not in (None, _checksum(tensors, state)):
        raise DataError(path, _CHECKSUM, "damaged: this is not what was written")
    return tensors, state


def check_same_run(path: Path, fixed_config: Mapping[str, Any]) -> None:
    """Raise ConfigError where the checkpoint, if there is one, is of a run with another configuration.

    Reads no tensor, so that a run can ask before it writes anything; whether the file is whole is seen when it goes on.
    """
    made_with = said_beside(path).get("config")
    if isinstance(made_with, dict):
        refuse_changes(path, made_with, fixed_config)


def said_beside(path: Path) -> dict[str, Any]:
    """The `state` that a file of tensors has beside them, unchecked; {} where it has none or cannot be read."""
    unreadable = (SafetensorError, ValueError, TypeError, OSError, KeyError)
    with contextlib.suppress(*unreadable), safe_open(path, framework="pt") as file:
        state = json.loads((file.metadata() or {})["state"])
        return state if isinstance(state, dict) else {}
    return {}


def refuse_changes(path: Path, made_with: Mapping[str, Any], fixed_config: Mapping[str, Any]) -> None:
    """Raise ConfigError naming what differs between the configuration of the checkpoint `path` and this one."""
    if changed := differences(made_with, json.loads(json.dumps(fixed_config))):
        raise ConfigError(
            f"{path} was made with another configuration and cannot go on with this one: " + "; ".join(changed)
        )


def _checksum(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> int:
    """CRC-32 of names, types, shapes and contents, and of the state."""
    value = zlib.crc32(json.dumps(state, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
    return value


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into `model`.

    Raises DataError naming the first parameter that is missing, unknown, misshapen, or not all finite numbers.
    """
    own = model.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise DataError(path, name, "missing in the file" if name in own else "unknown to this model")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            problem = f"shape {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in this model"
            raise DataError(path, name, problem)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(path, name, "numbers that are not finite: whatever it computes would be none either")
    model.load_state_dict(dict(tensors))


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    state: Mapping[str, Any],
    with_gradients: bool = False,
) -> None:
    """Write everything a run needs to go on exactly: weights, moments and `state`."""
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter, optimizer in _optimized(model, optimizers):
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        if with_gradients and parameter.grad is not None:
            tensors[f"gradient.{name}"] = parameter.grad
    save_tensors(path, tensors, state)


def load_checkpoint(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote and return its `state`."""
    tensors, state = load_tensors(path)
    load_weights(model, _part(tensors, "model."), path)
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optimizer.").items():
        kind, name = key.split(".", 1)
        moments.setdefault(name, {})[kind] = value
    gradients = _part(tensors, "gradient.")
    for name, parameter, optimizer in _optimized(model, optimizers):
        if name in moments:
            optimizer.state[parameter] = {
                # AdamW's step counter stays where the optimizer would have made it.
                key: value.to(parameter.device) if value.ndim or parameter.is_cuda else value
                for key, value in moments[name].items()
            }
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)
    return state


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _optimized(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
    """Every parameter that an optimizer has, with its name and its optimizer."""
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    return ((name, p, owners[id(p)]) for name, p in model.named_parameters() if id(p) in owners)
