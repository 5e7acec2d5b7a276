# %% [markdown]
# # Notebook: phases and trainability
#
# How deep can a network be trained? Mean field theory (arXiv:1912.13053) answers from two numbers, the variances of weights and biases; the kernels of deep networks show
# it.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import widegram
from widegram import meanfield

# %% [markdown]
# ## The phase diagram
#
# Below the critical line every two inputs grow alike with depth (ordered), above it they grow apart (chaotic).

# %%
B_VAR = 0.1
w_var, b_var = np.linspace(0.2, 4, 77), np.linspace(0, 0.4, 41)
found = meanfield.phase_map("erf", w_var, b_var)

plt.figure(figsize=(6, 3.6), layout="constrained")
plt.pcolormesh(w_var, b_var, found.solved.c_star.T, cmap="coolwarm_r", vmin=0, vmax=1)
plt.colorbar(label="correlation of two inputs, infinitely deep")
plt.plot(found.critical, b_var, "k", label="critical")
plt.xlabel("w_var")
plt.ylabel("b_var")
plt.xlim(w_var[0], w_var[-1])
plt.legend(loc="upper left")
plt.show()

# %% [markdown]
# One point of it, and how many layers its memory of an input lasts:

# %%
critical = meanfield.point("erf", 2.0, B_VAR)["w_var_critical"]
SETTINGS = {"ordered": 0.8, "critical": critical, "chaotic": 3.0}
for name, w in SETTINGS.items():
    values = meanfield.point("erf", w, B_VAR)
    depth = values["xi_c"]
    print(f"{name}: w_var {w:.3f}, phase {values['phase']},", end=" ")
    print("depth scale", "infinite" if depth is None else f"{depth:.1f}")

# %% [markdown]
# ## What that does to a kernel
#
# The condition number of the tangent kernel says how long gradient descent takes. In the ordered phase it explodes; in the chaotic one the kernel becomes a multiple of the
# identity, which learns fast and knows nothing about other inputs.

# %%
x, y = load_digits(return_X_y=True)
x = (x[:150] - x.mean()) / x.std()
y = y[:150]
train, test = slice(0, 100), slice(100, 150)
targets = np.eye(10)[y[train]] - 0.1
DEPTHS = (1, 2, 4, 8, 16, 32)

curves = {}
for name, w in SETTINGS.items():
    rows = []
    for depth in DEPTHS:
        k = widegram.kernel(f"fcn:depth={depth},act=erf,w_var={w},b_var={B_VAR}", x, get="ntk")
        eigenvalues = np.linalg.eigvalsh(k[train, train])
        mean = k[test, train] @ np.linalg.solve(k[train, train], targets)
        share = np.mean(mean.argmax(axis=1) == y[test])
        rows.append((eigenvalues[-1] / eigenvalues[0], share))
    curves[name] = np.array(rows)
    print(
        name, "condition of the deepest:", f"{rows[-1][0]:.3g}", "accuracy:", f"{rows[-1][1]:.2f}"
    )

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for name, rows in curves.items():
    axes[0].loglog(DEPTHS, rows[:, 0], "o-", label=name)
    axes[1].semilogx(DEPTHS, rows[:, 1], "o-", label=name)
axes[0].set_ylabel("condition number")
axes[1].set_ylabel("test accuracy")
for axis in axes:
    axis.set_xlabel("depth")
axes[0].legend()
plt.show()
assert curves["ordered"][-1, 0] > 100 * curves["chaotic"][-1, 0]
