# %% [markdown]
# # Notebook: model selection on a table
#
# Which network, which regulariser, and how large are the errors? All of it from training rows alone, on scikit-learn's table of diabetes: 442 patients, ten columns, and how
# far the disease went within a year.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

import widegram
from widegram.sklearn import GaussianProcessRegressor

x, y = load_diabetes(return_X_y=True)
order = np.random.default_rng(0).permutation(len(x))[:300]
x, y = x[order], y[order]
x = (x - x[:200].mean(axis=0)) / x[:200].std(axis=0)
spread = y[:200].std()
y = (y - y[:200].mean()) / spread
x, x_test, y, y_test = x[:200], x[200:], y[:200], y[200:]

# %% [markdown]
# ## A grid of networks
#
# `tune` tries every combination, with every regulariser, by leave-one-out error. It needs no folds: one factorisation gives the error of every row left out.

# %%
with tempfile.TemporaryDirectory() as folder:
    np.savez(Path(folder) / "table.npz", x=x, y=y)
    result = widegram.tune(
        "fcn:depth={1,2,4},act=erf,w_var={0.5,2},b_var=0.1",
        f"{folder}/table.npz:x",
        f"{folder}/table.npz:y",
        f"{folder}/tuned.h5",
        widegram.Search(criterion="loo", diag_regs=(1e-2, 1e-1, 1.0, 10.0), dtype="float64"),
    )
for row in result.rows:
    print(f"{row['net']:38} diag_reg {row['diag_reg']:<6g} leave-one-out mse {row['loo_mse']:.4f}")

# %% [markdown]
# ## The best of them on rows that nobody has looked at

# %%
best = result.rows[0]
kernel = widegram.kernel(best["net"], x, get="ntk")
kernel += best["diag_reg"] * np.trace(kernel) / len(x) * np.eye(len(x))
cross = widegram.kernel(best["net"], x_test, x, get="ntk")
error = np.mean((cross @ np.linalg.solve(kernel, y) - y_test) ** 2)
print(f"test mse {error:.3f}; of predicting the mean {np.mean(y_test**2):.3f}")
assert error < 0.75 * np.mean(y_test**2)

# %% [markdown]
# ## Error bars
#
# A Gaussian process with the kernel of the network: the prior's scale and noise by evidence. A good error bar is one that covers as often as it says.

# %%
model = GaussianProcessRegressor("fcn:depth=1,act=erf,b_var=0.1").fit(x, y)
mean, std = model.predict(x_test, return_std=True)
levels = {0.5: 0.674490, 0.8: 1.281552, 0.95: 1.959964}  # quantiles of a normal
for level, quantile in levels.items():
    covered = np.mean(np.abs(y_test - mean) < quantile * std)
    print(f"{level:.0%} intervals cover {covered:.0%}")

# %%
rank = np.argsort(mean)
plt.figure(figsize=(7, 3.2), layout="constrained")
plt.errorbar(np.arange(len(mean)), mean[rank], 1.96 * std[rank], fmt=".", alpha=0.5, label="95 %")
plt.plot(y_test[rank], "k.", label="what it was")
plt.xlabel("test rows, by prediction")
plt.ylabel("target, standardised")
plt.legend()
plt.show()
