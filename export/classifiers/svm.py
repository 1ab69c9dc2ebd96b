"""RBF support vector machine, one class against the rest, with Platt's probabilities.

One against the rest, not scikit-learn's default of one against one: its decision values are smooth, where votes jump
when two classes are near, which makes poor probabilities and lets INT8's rounding flip labels. In the graph all classes
share one kernel evaluation. SVC(probability=True) is deprecated; CalibratedClassifierCV with ``ensemble=False`` fits
one sigmoid a class on cross-validated decision values and one SVM on everything.

Platt 1999, Probabilistic outputs for support vector machines; Rifkin and Klautau 2004, In Defense of One-Vs-All.
"""

from __future__ import annotations

from sklearn.calibration import CalibratedClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from . import Splits

SETTINGS = ({"penalty": 10.0}, {"penalty": 1.0}, {"penalty": 100.0})


def build(seed: int, splits: Splits, *, penalty: float) -> CalibratedClassifierCV:
    return CalibratedClassifierCV(OneVsRestClassifier(SVC(C=penalty)), cv=splits, ensemble=False)
