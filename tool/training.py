"""What a training run changes at each step: moved by it, saved and restored."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tool.optim import lie_as_weights


class Stateful(Protocol):
    """What has a state as modules have one: tensors and plain values by name."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object: ...


class Training(NamedTuple):
    """What trains, by which optimiser and schedule.

    objective: what is called once a step, a module or what makes several processes' modules one.
    saved: what of it a checkpoint holds, by name.
    scaler: of fp16, whose gradients would vanish; disabled where fp16 can be asked for and is not, None where it cannot
        be. Checkpoints differ: they hold the state of one that is disabled, {}, and nothing for None.
    max_gradient: the norm that a step's whole gradient is cut to; None: never.
    beside: a second optimiser, of the parameters that the first has not, whose rates stay as they are.
    """

    objective: nn.Module
    saved: Mapping[str, Stateful]
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: GradScaler | None = None
    max_gradient: float | None = None
    beside: Optimizer | None = None

    def step(self, losses: Tensor | Iterable[Tensor]) -> None:
        """Move the weights by the gradient of a loss, a scalar, or of the sum of several, and the rates by one step.

        Of several each is let go before the next is asked for.
        """
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for loss in (losses,) if isinstance(losses, Tensor) else losses:
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.scaler is None:
            self._cut_gradient()
            for optimizer in self.optimizers.values():
                optimizer.step()
        else:
            if self.max_gradient is not None:
                for optimizer in self.optimizers.values():
                    self.scaler.unscale_(optimizer)
                self._cut_gradient()
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
            self.scaler.update()
        self.schedule.step()

    def _cut_gradient(self) -> None:
        if self.max_gradient is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.max_gradient)

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """By the names under which a checkpoint has their states."""
        return {"optimizer": self.optimizer, **({} if self.beside is None else {"beside": self.beside})}

    @property
    def _parts(self) -> dict[str, Stateful]:
        scaler = {} if self.scaler is None else {"scaler": self.scaler}
        return {**self.saved, **self.optimizers, "schedule": self.schedule, **scaler}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it: tensors and plain values."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        for optimizer in self.optimizers.values():
            lie_as_weights(optimizer)
