"""widegram's own scikit-learn classifier in a pipeline and a grid search."""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from widegram.sklearn import WidegramClassifier

x_train, x_test, y_train, y_test = train_test_split(
    *load_digits(return_X_y=True), train_size=400, test_size=300, random_state=0
)
pipeline = make_pipeline(StandardScaler(), WidegramClassifier("fcn:depth=3,act=relu"))
grid = {
    "widegramclassifier__kernel": ["nngp", "ntk"],
    "widegramclassifier__diag_reg": [1e-4, 1e-2],
}
search = GridSearchCV(pipeline, grid, cv=3).fit(x_train, y_train)
print(search.best_params_)
print(f"accuracy {search.score(x_test, y_test):.4f}")
