"""The base class of modules that can only run."""

from typing import NoReturn, SupportsIndex

from torch import nn

from cutline.errors import ConfigError


class InferenceModule(nn.Module):
    """A module whose weights PyTorch can neither copy, nor save, nor replace.

    They are repacked, or part of a graph, and not all of them are parameters. Without these
    methods, `state_dict` would omit them silently.
    """

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ConfigError(
            "a model that is prepared for inference cannot be copied, saved or given other "
            'weights: load it again, or load it with engine="eager"'
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse `copy.deepcopy` and `pickle`, which both call this method."""
        self._refuse()

    _save_to_state_dict = _refuse  # called by `state_dict` of this module and of its parents
    _load_from_state_dict = _refuse
