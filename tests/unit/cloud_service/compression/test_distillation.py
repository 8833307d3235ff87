"""Students learn labels where there are any, and opinions everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cloud_service.compression.config import TrainingConfig
from cloud_service.compression.distillation import (
    NO_LABEL,
    Lessons,
    Opinion,
    distillation_loss,
    epoch_losses,
    hidden_loss,
    soft_targets,
    steps_per_epoch,
)
from cloud_service.compression.encoding import pad_batch, shuffled_batches
from cloud_service.compression.evaluation import compute_opinion
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

PLAN = TrainingConfig(epochs=1, learning_rate=1e-3, label_weight=0.25, distillation_temperature=2.0)


def lessons(copies: int) -> Lessons:
    count = 10 * (1 + copies)
    opinion = Opinion(np.zeros((count, 10), dtype=np.float32), np.zeros((count, 4), dtype=np.float32))
    return Lessons([[1, 2, 3]] * count, tuple(range(10)), originals=10, opinions=(opinion,))


def test_the_loss_is_zero_opinion_apart_when_the_student_says_what_the_teacher_says() -> None:
    logits = torch.randn(6, 4)
    labels = torch.full((6,), NO_LABEL)
    loss = distillation_loss(logits, soft_targets([logits], 2.0), labels, PLAN)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_labels_alone_are_plain_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    plan = PLAN.model_copy(update={"label_weight": 1.0})
    loss = distillation_loss(logits, soft_targets([torch.randn(6, 4)], 2.0), labels, plan)
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, labels).item())


def test_two_teachers_are_averaged_as_probabilities() -> None:
    targets = soft_targets([torch.tensor([[9.0, -9.0]]), torch.tensor([[-9.0, 9.0]])], 1.0)
    torch.testing.assert_close(targets, torch.tensor([[0.5, 0.5]]))


def test_rewritten_copies_take_turns_and_have_no_label() -> None:
    taught = lessons(copies=3)
    starts = [int(taught.rows_of_epoch(epoch, 1)[10]) for epoch in range(4)]
    assert starts == [10, 20, 30, 10]
    assert taught.labels_of(np.array([4, 14])).tolist() == [4, NO_LABEL]
    assert steps_per_epoch(taught, PLAN.model_copy(update={"augmented_copies": 1, "batch_size": 8})) == 3


def test_without_copies_an_epoch_is_the_labelled_questions() -> None:
    assert lessons(copies=0).rows_of_epoch(5, 2).tolist() == list(range(10))


def test_without_a_teacher_only_labelled_texts_teach() -> None:
    alone = Lessons([[1, 2]] * 15, tuple(range(10)), originals=15)
    assert alone.rows_of_epoch(0, 3).tolist() == list(range(10))


def test_the_hidden_loss_is_zero_where_the_states_agree_and_one_where_the_student_says_nothing() -> None:
    state = torch.randn(5, 8)
    assert hidden_loss(state, state).item() == 0.0
    assert hidden_loss(torch.zeros(5, 8), state).item() == pytest.approx(1.0)


def test_hidden_states_are_drawn_to_the_first_teachers_alone() -> None:
    shape = NetworkShape(Family.BERT, 10, 8, 16, 8, (LayerShape(2, 2, 8),), norm_epsilon=1e-6, pooling=Pooling.MEAN)
    student = new_classifier(shape, 4, seed=1).eval()
    sequences = [[1, 2, 3], [4, 5], [6]]
    own = compute_opinion(student, sequences)
    wider = Opinion(own.logits, np.ones((3, 24), dtype=np.float32))
    other = Opinion(own.logits, own.pooled + 1.0)

    def loss(hidden_weight: float, *teachers: Opinion) -> float:
        plan = PLAN.model_copy(update={"hidden_weight": hidden_weight})
        taught = Lessons(sequences, (0, 1, 2), originals=3, opinions=teachers)
        return sum(one.item() for one in epoch_losses(student, taught, plan, seed=0, epoch=0))

    assert loss(1.0, own, wider) == pytest.approx(loss(0.0, own, wider), abs=1e-6)
    assert loss(1.0, other, wider) == pytest.approx(loss(1.0, other, own))
    assert loss(1.0, other, own) > loss(0.0, other, own) + 0.5


def test_every_row_is_in_one_batch_and_the_order_depends_on_the_seed() -> None:
    lengths = np.random.default_rng(0).integers(3, 40, size=1000).tolist()
    batches = list(shuffled_batches(lengths, 32, np.random.default_rng(1)))
    again = list(shuffled_batches(lengths, 32, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert len(batches) == 32
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_padding_is_on_the_right_and_masked() -> None:
    batch = pad_batch([[5, 6, 7], [8]])
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.attention_mask().tolist() == [[1, 1, 1], [1, 0, 0]]
