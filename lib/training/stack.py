"""Runs of one computation trained together: the steps of the training loop, for all of them at once.

On a GPU the small networks of this study leave nearly all of the card idle, and launching their kernels one by one
takes longer than running them. Here the tensors of many runs lie side by side, and every kernel works on all of them
(`torch.func.vmap` over the network as it is). What a run is, evaluates, keeps, saves and finds stays its own: a member
is a `Training` whose tensors are views of the stack.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.utils._pytree import tree_map

from lib.networks.stages import MOVES, moving_in_part
from lib.strategies.frozen_normalization import set_training_mode
from lib.strategies.strategy import STRATEGIES
from lib.training.foreign_networks import call_with
from lib.training.loop import Training
from lib.training.optimizer import BETAS, EPSILON, learning_rate


class Member(Training):
    """A run in a stack."""

    stack: Stack | None = None
    size = 1

    def predict(self, index: np.ndarray) -> Tensor:
        known = None if self.stack is None else self.stack.predicted(self, index)
        return super().predict(index) if known is None else known

    def state(self) -> dict[str, Tensor]:
        return super().state() if self.stack is None else self.stack.state_of(self)

    def origin(self) -> dict[str, Any]:
        return {**super().origin(), "stack": self.size}


class _Output(nn.Module):
    """What a goal makes of a network's output, as a module, so that the network's tensors can be passed in."""

    def __init__(self, member: Training) -> None:
        super().__init__()
        self.model, self.member = member.model.core, [member]  # in a list, so that it is no submodule

    def forward(self, inputs: Tensor) -> Tensor:
        return self.member[0].output(inputs)


class Stack:
    """The tensors of members at one step, side by side, and the steps on them.

    Args:
        members: of one `computation`, begun, all at the same step.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members, first = list(members), members[0]
        self.device, self.step, self.steps = first.device, first.step, first.spec.steps
        self.network = _Output(first)
        self.outputs: dict[int, Tensor] = {}  # predictions for sets of validation images, at the step `outputs_of`
        self.host: dict[str, Tensor] = {}  # all tensors in the memory of the host, at the step `host_of`
        self.outputs_of = self.host_of = -1
        self._lay_out()
        self._make_tables()
        self.feed = first.objective.together([each.objective for each in members], self.steps)
        self.pull = self._row([m.spec.options["alpha"] if STRATEGIES[m.spec.strategy].pull else 0.0 for m in members])
        pulls = any(STRATEGIES[each.spec.strategy].pull for each in members)
        self.start = {name: torch.stack([m.start[name] for m in members]) for name in self.moving} if pulls else {}
        for member in members:
            member.stack = self

    def _row(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)

    def _lay_out(self) -> None:
        """Move the tensors of all members into stacks, and leave views of these in their places.

        Parameters that move in any member are blocks (members, *shape) of one long vector, as the optimizer's moments
        are, so that an update takes a few kernels whatever the network. One alone keeps its memory format.
        """
        members, count = self.members, len(self.members)
        tensors = [{**dict(m.model.named_parameters()), **dict(m.model.named_buffers())} for m in members]
        names = {name: each.numel() for name, each in members[0].model.named_parameters()}
        moving = [name for name in names if any(name in m.moving for m in members)]
        example = tensors[0][moving[0]]
        self.values = torch.empty(count * sum(names[name] for name in moving), dtype=example.dtype, device=self.device)
        self.average, self.square = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.moves = torch.zeros(len(self.values), dtype=torch.bool, device=self.device)
        self.owner = torch.cat([torch.arange(count).repeat_interleave(names[name]) for name in moving]).to(self.device)
        # one count an entry of the optimizer: a file may not hold a tensor twice
        self.counts = torch.full((count, len(moving)), float(self.step), device=self.device)
        self.moving: dict[str, Tensor] = {}
        self.order: dict[str, list[int]] = {}  # of the axes of a block in memory
        self.fixed: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        part = [moving_in_part(member.model) for member in members]
        first = 0
        for name in moving:
            last, shape = first + count * names[name], (count, *tensors[0][name].shape)
            order = self.order[name] = list(range(len(shape)))
            if count == 1:
                strides = (0, *tensors[0][name].stride())
                order[1:] = sorted(order[1:], key=lambda axis, strides=strides: -strides[axis])
            blocks = [
                each[first:last].view([shape[axis] for axis in order]).permute(np.argsort(order).tolist())
                for each in self._vectors()
            ]
            for place, member in enumerate(members):
                values, average, square, moves = (block[place] for block in blocks)
                parameter = tensors[place][name]
                values.copy_(parameter.detach())
                parameter.data = values
                if name in member.moving:
                    moves.copy_(part[place].get(name, torch.tensor(True)))
                    state = member.optimizer.state[parameter]
                    for key, block in (("exp_avg", average), ("exp_avg_sq", square)):
                        if key in state:
                            block.copy_(state[key])
                        state[key] = block
                    state["step"] = self.counts[place, moving.index(name)]
            self.moving[name], first = blocks[0], last
        for name in tensors[0]:
            if name in moving or name.endswith(MOVES):
                continue
            stacked = torch.stack([each[name].detach() for each in tensors])
            (self.fixed if name in names else self.buffers)[name] = stacked
            for place, each in enumerate(tensors):
                each[name].data = stacked[place]
        self.loss_sum = torch.stack([member.loss_sum for member in members])
        self.bad_step = torch.stack([member.bad_step for member in members])
        for place, member in enumerate(members):
            member.loss_sum, member.bad_step = self.loss_sum[place], self.bad_step[place]

    def _vectors(self) -> list[Tensor]:
        return [self.values, self.average, self.square, self.moves]

    def _make_tables(self) -> None:
        """Everything that depends on the step and is no batch: (steps, members), on the device."""
        rows = [[learning_rate(member.spec, step) for member in self.members] for step in range(self.steps)]
        rates = torch.tensor(rows, dtype=torch.float64)
        decay = torch.tensor([member.spec.weight_decay for member in self.members], dtype=torch.float64)
        counts = torch.arange(1, self.steps + 1, dtype=torch.float64)[:, None]
        first, second = (1 - beta**counts for beta in BETAS)
        self.keeps = (1 - rates * decay).to(self.values.dtype).to(self.device)
        self.sizes = (rates / first).to(self.values.dtype).to(self.device)
        self.roots = second.sqrt().to(self.values.dtype).to(self.device)
        self.place = torch.tensor(self.step, device=self.device)

    def train(self, save_every: float) -> list[Member]:
        """Train until a member ends, which is written with its end; returns those that go on, saved at this step.

        Whoever goes on is in another stack from then on: how many networks lie in one can decide the last bits of
        their numbers, and a stack that is taken up again holds only runs that have not ended.
        """
        events = set().union(*(member.evaluate_at | member.keep_at for member in self.members))
        spent = [member.seconds for member in self.members]
        one_step = self._recorded() if self.device.type == "cuda" and self.feed.recorded else self.one_step
        began = saved = time.perf_counter()
        trained, cost = 0.0, 0.0
        while True:
            one_step()
            self.step += 1
            if self.step not in events:
                continue
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            trained += time.perf_counter() - began
            for member, before in zip(self.members, spent, strict=True):
                member.step = self.step
                member.began = time.perf_counter() - before - trained / len(self.members)
                member.after_step()
            ended = [member for member in self.members if not member.goes_on()]
            if ended or time.perf_counter() - saved >= max(save_every, SHARE * cost):
                asked = time.perf_counter()
                save_all(self.members)
                saved = time.perf_counter()
                cost = saved - asked
            if ended:
                with ThreadPoolExecutor() as side_by_side:  # distances of outlines and files are the host's work
                    list(side_by_side.map(Member.end, ended))
                return [member for member in self.members if member not in ended]
            began = time.perf_counter()

    @torch.no_grad()
    def one_step(self) -> None:
        """One optimizer step of every member; on the device alone, but for what `feed` does."""
        set_training_mode(self.network.model)
        inputs, truth = self.feed.at(self.step, self.place)
        pull, dims = ((self.pull, self.start), (0, 0)) if self.start else ((None, None), (None, None))
        asked: tuple[Any, ...] = (self.moving, self.fixed, self.buffers, *pull, inputs, truth)
        if len(self.members) > 1:
            gradients, losses = vmap(grad_and_value(self._loss), in_dims=(0, 0, 0, *dims, 0, 0))(*asked)
        else:  # without what vmap would put around every operation
            found = grad_and_value(self._loss)(*tree_map(lambda each: None if each is None else each[0], asked))
            gradients, losses = tree_map(lambda each: each.unsqueeze(0), found)
        self._update(torch.cat([gradients[name].permute(order).reshape(-1) for name, order in self.order.items()]))
        self.loss_sum += losses
        new_bad = (self.bad_step < 0) & ~torch.isfinite(losses)
        self.bad_step.copy_(torch.where(new_bad, self.place, self.bad_step))
        self.place += 1

    def _loss(
        self,
        moving: dict[str, Tensor],
        fixed: dict[str, Tensor],
        buffers: dict[str, Tensor],
        pull: Tensor | None,
        start: dict[str, Tensor] | None,
        inputs: Tensor,
        truth: Tensor,
    ) -> Tensor:
        state = {f"model.{name}": each for name, each in {**moving, **fixed, **buffers}.items()}
        loss = self.network.member[0].objective.loss(call_with(self.network, state, inputs), truth)
        if pull is not None and start is not None:
            loss = loss + pull / 2 * sum(((each - start[name]) ** 2).sum() for name, each in moving.items())
        return loss

    def _update(self, gradient: Tensor) -> None:
        """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with every member's own rate and decay."""
        self.average.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        tables = (self.keeps, self.sizes, self.roots)
        keeps, sizes, root = (table.index_select(0, self.place.view(1))[0] for table in tables)
        new = self.values * keeps[self.owner]
        new -= sizes[self.owner] * self.average / (self.square.sqrt() / root + EPSILON)
        self.values.copy_(torch.where(self.moves, new, self.values))
        self.counts += 1

    def _recorded(self) -> Callable[[], None]:
        """The step as a CUDA graph: recorded once, after some steps that are undone, then replayed as a whole."""
        state = [*self._vectors(), *self.buffers.values(), self.loss_sum, self.bad_step, self.place, self.counts]
        before = [each.clone() for each in state]
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self.one_step()
                self.place -= 1  # the last steps have no three steps after them
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.one_step()
        for each, value in zip(state, before, strict=True):
            each.copy_(value)
        return graph.replay

    @torch.no_grad()
    def predicted(self, member: Member, index: np.ndarray) -> Tensor | None:
        """What a member makes of a set of images that its goal validates it by; one pass for all members a set."""
        sets = member.objective.validated
        part = next((place for place, each in enumerate(sets) if np.array_equal(each, index)), None)
        if part is None:
            return None
        if self.outputs_of != self.step:
            self.outputs, self.outputs_of = {}, self.step
        if part not in self.outputs:
            inputs = [each.objective.inputs(each.objective.validated[part]) for each in self.members]
            self.outputs[part] = self._pass(inputs)
        return self.outputs[part][self.members.index(member), : len(index)]

    def state_of(self, member: Member) -> dict[str, Tensor]:
        """All tensors of a member's network, in the memory of the host: one copy a tensor for all members a step."""
        if self.host_of != self.step:
            tensors = {**self.moving, **self.fixed, **self.buffers}
            self.host, self.host_of = {name: each.cpu() for name, each in tensors.items()}, self.step
        place = self.members.index(member)
        return {name: self.host[name][place] for name in member.model.state_dict()}

    def _pass(self, inputs: Sequence[Tensor]) -> Tensor:
        """Outputs (members, n, ...) of every member for its own inputs; shorter ones are filled up."""
        most = max(map(len, inputs))
        filled = torch.stack(
            [torch.cat([each, each[-1:].expand(most - len(each), *each.shape[1:])]) for each in inputs]
        )
        self.network.eval()
        state = {f"model.{name}": each for name, each in {**self.moving, **self.fixed, **self.buffers}.items()}
        forward = vmap(lambda own, batch: call_with(self.network, own, batch))
        return torch.cat([forward(state, batch) for batch in filled.split(self.members[0].at_once, dim=1)], dim=1)


SHARE = 20  # saving takes at most one part in so many of the time
SAVED, WRITING = "resume.safetensors", "resume.next.safetensors"


def save_all(members: Sequence[Member]) -> None:
    """Save the state of every member, so that a crash in between leaves all of them with the state before."""
    for member in members:
        member.save(WRITING)
    for member in members:
        os.replace(member.run.path / WRITING, member.run.path / SAVED)
