"""Tied winners of max-pooling: the choice, where it can be made, and that it is said."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import integers, rngs

import lrp_toolbox as lrp
from lrp_toolbox.cli import main
from lrp_toolbox.modules.pooling import ties_of


def pooled(rng, ties="share"):
    """A net with ties in both of its pools: whole numbers, and few of them."""
    return lrp.Sequential(
        lrp.Conv(integers(rng, 3, 3, 2, 3), padding=1), lrp.ReLU(), lrp.MaxPool(2, ties=ties),
        lrp.Sequential(lrp.Conv(integers(rng, 1, 1, 3, 2)), lrp.AdaptiveMaxPool(2, ties=ties)),
        lrp.Flatten(), lrp.Linear(integers(rng, 8, 2)),
    )  # fmt: skip


@given(rngs(), st.sampled_from([lrp.Z(), lrp.Epsilon(), lrp.AlphaBeta(2), lrp.lrp_cmp(1)]))
def test_the_choice_at_the_explanation_is_that_of_the_layers(rng, rule):
    state = rng.bit_generator.state
    nets = {}
    for ties in ("share", "first"):
        rng.bit_generator.state = state
        nets[ties] = pooled(rng, ties)
    x = integers(rng, 6, 6, 2)
    for ties, net in nets.items():
        expected = lrp.explain(net, x, 0, rule)
        for other in nets.values():
            found = lrp.explain(other, x, 0, rule, ties=ties)
            assert (found.R == expected.R).all()
            assert str(found.ledger).splitlines()[-1].strip() == f"ties in max-pooling: {ties}"
            assert f"Winner(ties='{ties}')" in str(found.rules)
        assert ties_of(lrp.with_ties(nets["share"], ties)) == ties
    assert (
        lrp.explain(nets["first"], x, 0, rule).rules.rules == lrp.explain(nets["first"], x, 0, rule, ties="first").rules.rules
    )


@given(rngs())
def test_sharing_is_symmetric(rng):
    """A mirrored picture gets the mirrored heatmap, if the net is symmetric. With the first of ties it need not be."""
    w = integers(rng, 3, 3, 1, 2)
    net = lrp.Sequential(lrp.Conv(w + w[:, ::-1], padding=1), lrp.MaxPool(2), lrp.SumPool(None), lrp.Flatten())
    x = integers(rng, 6, 6, 1, least=0, most=1)
    R, mirrored = (lrp.explain(net, v, 0, lrp.Z()).R for v in (x, x[:, ::-1]))
    assert (mirrored == R[:, ::-1]).all()


def test_the_first_of_ties_is_not_symmetric():
    net = lrp.Sequential(lrp.MaxPool(2), lrp.Flatten())
    x = np.ones((2, 2, 1))
    assert lrp.explain(net, x, 0, lrp.Z()).R.reshape(-1).tolist() == [0.25] * 4
    assert lrp.explain(net, x, 0, lrp.Z(), ties="first").R.reshape(-1).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("wrong", ["even", "", True, 0])
def test_other_choices_are_refused(wrong):
    for call in (
        lambda: lrp.explain(lrp.Sequential(lrp.MaxPool(2), lrp.Flatten()), np.ones((2, 2, 1)), 0, ties=wrong),
        lambda: lrp.with_ties(lrp.MaxPool(2), wrong),
        lambda: lrp.MaxPool(2, ties=wrong),
        lambda: lrp.load("lenet5-mnist", ties=wrong),
    ):
        with pytest.raises(ValueError, match="ties: expected 'share' or 'first', got"):
            call()


def test_a_model_is_loaded_with_the_choice_and_saved_with_it(tmp_path):
    model = lrp.load("lenet5-mnist", ties="first")
    assert ties_of(model.net) == "first"
    assert ties_of(lrp.load("lenet5-mnist").net) == "share"
    lrp.save(model, tmp_path / "mine")
    assert ties_of(lrp.load(tmp_path / "mine").net) == "first"
    assert ties_of(lrp.load(tmp_path / "mine", ties="share").net) == "share"
    e = model.explain(model.example, "2", "z")
    assert (e.R == lrp.load("lenet5-mnist").explain(model.example, "2", "z", ties="first").R).all()


def test_the_command_takes_the_choice_and_says_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for ties in ("share", "first"):
        assert (
            main(["explain", "--model", "lenet5-mnist", "--ties", ties, "--ledger", "--rules", "--save-relevance", "r.npz"])
            == 0
        )
        printed = capsys.readouterr().out
        assert f"ties in max-pooling: {ties}" in printed
        assert f"Winner(ties='{ties}')" in printed
        with np.load("r.npz") as saved:
            assert f"ties='{ties}'" in json.dumps({name: saved[name].tolist() for name in saved.files if "rule" in name})
    with pytest.raises(SystemExit):
        main(["explain", "--model", "lenet5-mnist", "--ties", "second"])
    assert "--ties: invalid choice: 'second'" in capsys.readouterr().err


@given(rngs(), st.sampled_from(["share", "first"]), st.sampled_from([lrp.Z(), lrp.Flat()]))
def test_adaptive_windows_of_one_size_are_those_of_max_pooling(rng, ties, rule):
    x, R = integers(rng, 6, 4, 2), integers(rng, 2, 2, 2)
    one, other = lrp.AdaptiveMaxPool(2, ties), lrp.MaxPool((3, 2), ties=ties)
    assert (one.forward(x) == other.forward(x)).all()
    found, expected = (layer.relprop(layer.trace(x), R, layer.effective_rule(rule)) for layer in (one, other))
    assert (found == expected).all()
