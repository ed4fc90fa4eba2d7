"""Modules that are loaded at their first use: not before, and then they are what they would have been."""

import subprocess
import sys

import pytest

HEAVY = ("scipy.stats._stats_py", "scipy.special._ufuncs", "scipy.sparse._csr", "sqlalchemy.engine")


def python(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_scoring_with_a_common_model_loads_none_of_them() -> None:
    program = f"""
import sys
import services.scoring.__main__
from headrace.fold import specification
steps = ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]
model = specification.build(specification.check({{"model": steps}}))
model.learn_one({{"a": 1.0}}, True)
model.predict_proba_one({{"a": 1.0}})
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(program).strip() == "[]"


def test_the_registry_keeps_its_database_and_loads_no_statistics() -> None:
    program = f"""
import sys
import services.registry.__main__
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(program).strip() == "['sqlalchemy.engine']"


USES = """
from river import metrics, optim, proba, stream
from river.linear_model import ad_predictor
from river.tree import stochastic_gradient_tree
import random
print(repr(ad_predictor.ndtri(0.3)), repr(stochastic_gradient_tree.f_dist.cdf(1.5, 1, 20)))
print(repr(proba.Beta(3, 4).cdf(0.4)))
roc = metrics.RollingROCAUC(window_size=50) if hasattr(metrics, "RollingROCAUC") else metrics.ROCAUC()
mean, rng = metrics.GeometricMean(), random.Random(1)
for _ in range(200):
    truth = rng.random() < 0.5
    roc.update(truth, min(1.0, max(0.0, rng.random() + 0.2 * truth)))
    mean.update(truth, rng.random() < 0.3 + 0.4 * truth)
print(repr(roc.get()), repr(mean.get()))
wide = proba.MultivariateGaussian(seed=7)
for _ in range(100):
    wide.update({"a": rng.gauss(0, 1), "b": rng.gauss(2, 3)})
print(repr(wide({"a": 0.1, "b": 1.0})), repr(wide.cdf({"a": 0.1, "b": 1.0})), wide.sample())
print(stream.iter_sql.__name__)
import scipy.stats, scipy.special, sqlalchemy
print(scipy.stats.norm.cdf(0.3), scipy.special.expit(0.3), sqlalchemy.select.__name__)
from scipy.stats import norm
from scipy import stats
assert norm is stats.norm
from sqlalchemy.orm import Session
"""


@pytest.mark.parametrize("first", ["", "from river import stats\n"])
def test_what_is_called_is_the_same_code(first: str) -> None:
    late = python("from headrace import late\nlate.install(late.OF_RIVER)\n" + first + USES)
    assert late == python(USES)
    assert "nan" not in late


def test_a_module_that_is_loaded_already_is_left_alone() -> None:
    program = """
import scipy.special, sys
before = scipy.special
from headrace import late
late.install(late.OF_RIVER)
print(sys.modules["scipy.special"] is before, type(sys.modules["scipy.stats"]).__name__)
import scipy.stats
print(scipy.stats.norm.cdf(0.0))
"""
    assert python(program).split() == ["True", "_Late", "0.5"]
