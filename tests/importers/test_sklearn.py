"""Nets that scikit-learn trained on data that it ships say the same here, and their explanations add up."""

import html
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from conftest import ROOT
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from support import closes

import lrp_toolbox as lrp
from lrp_toolbox.importers.sklearn import from_sklearn


def fit(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def mlp(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (8, 5), "max_iter": 60, "random_state": 0, **options})


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer()


@pytest.fixture(scope="module")
def wine():
    return load_wine()


SCALERS = [
    (),
    (StandardScaler(),),
    (MinMaxScaler((-1, 1)),),
    (StandardScaler(with_std=False), MinMaxScaler(clip=True)),
    ("passthrough",),
]


@pytest.mark.parametrize("scalers", SCALERS)
def test_logistic_regression_decides_the_same(scalers, cancer, wine):
    for data in (cancer, wine):
        estimator = fit(make_pipeline(*scalers, LogisticRegression(max_iter=50)), data.data, data.target)
        found = from_sklearn(estimator, features=data.feature_names)
        raw = 1.3 * data.data[::7]  # some of it outside of what was seen in training
        y = found.net(found.prepare(raw))
        expected = estimator.decision_function(raw)
        np.testing.assert_allclose(y, expected.reshape(y.shape), rtol=1e-9, atol=1e-9)
        assert found.features == tuple(data.feature_names)
        assert found.classes == (("1",) if data is cancer else ("0", "1", "2"))


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_multilayer_perceptrons_decide_the_same(activation, cancer, wine):
    for data in (cancer, wine):
        estimator = fit(make_pipeline(StandardScaler(), mlp(activation=activation)), data.data, data.target)
        found = from_sklearn(estimator)
        z = found.net(found.prepare(data.data))
        p = 1 / (1 + np.exp(-z)) if z.shape[1] == 1 else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p, estimator.predict_proba(data.data)[:, -z.shape[1] :], rtol=1e-9, atol=1e-12)
    regressor = MLPRegressor(hidden_layer_sizes=(6,), activation=activation, max_iter=30, random_state=0)
    X, y = load_diabetes(return_X_y=True)
    for target in (y, np.stack([y, -y], axis=1)):
        fit(regressor, X, target)
        found = from_sklearn(regressor)
        np.testing.assert_allclose(found.net(found.prepare(X)).reshape(target.shape), regressor.predict(X), rtol=1e-9)
    assert found.classes == ("output 0", "output 1")


def test_names_of_features_come_from_the_table_that_was_fitted(wine):
    estimator = fit(make_pipeline(StandardScaler(), mlp()), wine.data, wine.target_names[wine.target])
    estimator[0].feature_names_in_ = np.asarray(wine.feature_names, object)  # as fit does, given a table of pandas or polars
    found = from_sklearn(estimator)
    assert found.features == tuple(wine.feature_names)
    assert found.classes == tuple(sorted(wine.target_names))


def test_relevance_of_the_features_adds_up_to_the_logit(wine):
    estimator = fit(make_pipeline(StandardScaler(), mlp()), wine.data, wine.target)
    found = from_sklearn(estimator, features=wine.feature_names, outputs=wine.target_names)
    x = found.prepare(wine.data[:3])
    e = lrp.explain(found, x, target="class_1", composite=lrp.Epsilon(1e-9))
    assert e.R.shape == x.shape
    assert closes(e, 1e-9)
    linear = fit(make_pipeline(StandardScaler(), LogisticRegression()), wine.data, wine.target)
    found = from_sklearn(linear)
    e = lrp.explain(found, found.prepare(wine.data[0]), target=2, composite=lrp.Z())
    z = found.prepare(wine.data[0]) * linear[-1].coef_[2]  # what each feature adds
    share = z / (z.sum() + linear[-1].intercept_[2])
    np.testing.assert_allclose(e.R, share * linear.decision_function(wine.data[:1])[0, 2], rtol=1e-9)


def test_pictures_have_the_names_of_the_features(wine):
    """Bars, and the table of a notebook, where a name is text and no HTML."""
    names = ["<b>alcohol</b>", *wine.feature_names[1:]]
    found = from_sklearn(fit(make_pipeline(StandardScaler(), mlp()), wine.data, wine.target), features=names)
    e = lrp.explain(found, found.prepare(wine.data[0]), target=0, composite=lrp.Epsilon(1e-9))
    order = [names[i] for i in np.argsort(-abs(e.R), kind="stable")[:12]]
    [ax] = e.figure().axes
    assert [label.get_text() for label in ax.get_yticklabels()] == order
    page = e._repr_html_()
    assert "<b>alcohol" not in page
    assert all(html.escape(name) in page for name in order)


def test_the_page_on_it_can_be_typed(monkeypatch):
    """Its code runs, and its bars are drawn."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    page = (ROOT / "docs" / "howto" / "onnx.md").read_text(encoding="utf-8").partition("## From scikit-learn")[2]
    code = "\n".join(line[4:] for line in page.splitlines() if line.startswith("    ") or not line)
    names = {}
    exec(code, names)
    assert names["model"].classes == ("malignant",)
    assert closes(names["e"], 1e-9)
    assert len(names["plt"].gca().patches) == 8
    names["plt"].close("all")


def test_what_is_not_read_is_said(wine):
    X, y = wine.data, wine.target
    for estimator in (RandomForestClassifier(3), Pipeline([("poly", PolynomialFeatures()), ("net", mlp())]), 3):
        with pytest.raises(TypeError, match="expected one of"):
            from_sklearn(fit(estimator, X[:, :3], y) if hasattr(estimator, "fit") else estimator)
    with pytest.raises(ValueError, match="out_activation_"):
        from_sklearn(fit(MLPRegressor(loss="poisson", hidden_layer_sizes=(3,), max_iter=5, random_state=0), X / 1000, y + 1.0))
    with pytest.raises(ValueError, match="call fit first"):
        from_sklearn(mlp())
    found = from_sklearn(fit(LogisticRegression(max_iter=5), X, y))
    for rows, match in ((X[:, :3], "13 features"), (np.full(13, np.nan), "finite")):
        with pytest.raises(ValueError, match=match):
            found.prepare(rows)
    for options in ({"features": ["a"]}, {"outputs": ["a"]}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
            from_sklearn(fit(LogisticRegression(max_iter=5), X, y), **options)
