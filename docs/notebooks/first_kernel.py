# %% [markdown]
# # Notebook: a first kernel
#
# A convolutional network of infinite width on 8 x 8 images of digits: its kernels, what they see, and what a network of that kind answers after training.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import widegram

images, labels = load_digits(return_X_y=True)
images = (images / 8.0 - 1.0).reshape(-1, 8, 8, 1)
order = np.argsort(labels[:150], kind="stable")  # classes side by side, for the picture
x, y = images[:150][order], labels[:150][order]
x_test, y_test = images[150:250], labels[150:250]
print(x.shape, x_test.shape)

# %% [markdown]
# A network is data: a preset with options, or a specification layer by layer. This one is two convolutions with erf, then the mean over all pixels.

# %%
NET = "cnn-p:depth=2,act=erf"
kernels = widegram.kernel(NET, x)
print(kernels.nngp.shape, kernels.ntk.shape, kernels.ntk.dtype)

# %% [markdown]
# `nngp` is the covariance of the network's outputs before training, `ntk` decides how gradient descent moves them. As correlations both show classes as lighter blocks
# along the diagonal, the zeros first of all, before any label was seen.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for axis, name in zip(axes, ("nngp", "ntk"), strict=True):
    k = getattr(kernels, name)
    scale = np.sqrt(np.diagonal(k))
    shown = axis.imshow(k / np.outer(scale, scale), cmap="viridis")
    axis.set_title(name)
    figure.colorbar(shown, ax=axis)
plt.show()

# %% [markdown]
# An ensemble of such networks, trained to the end on squared errors, answers on average K(test, train) (K + reg I)^-1 Y.

# %%
cross = widegram.kernel(NET, x_test, x, get="ntk")
targets = np.eye(10)[y] - 0.1
k = kernels.ntk + 1e-4 * np.trace(kernels.ntk) / len(x) * np.eye(len(x))
mean = cross @ np.linalg.solve(k, targets)
accuracy = np.mean(mean.argmax(axis=1) == y_test)
print(f"accuracy on {len(x_test)} test images: {accuracy:.2f}")
assert accuracy > 0.85

# %% [markdown]
# On the way there, after a training time t: `widegram.predict` has neural-tangents' functions.

# %%
from widegram import predict

answer = predict.gradient_descent_mse(kernels.ntk, targets)
times = [10.0**power for power in range(6)]
right = [
    np.mean(answer(t, np.zeros((150, 10)), np.zeros((100, 10)), cross)[1].argmax(1) == y_test)
    for t in times
]
plt.figure(figsize=(5, 3), layout="constrained")
plt.semilogx(times, right, "o-")
plt.xlabel("training time")
plt.ylabel("test accuracy")
plt.show()

# %% [markdown]
# A matrix that is larger than memory goes to a file, tile by tile. The call may be interrupted at any moment; the same call goes on, and any program that reads HDF5 reads
# the result.

# %%
import tempfile
from pathlib import Path

import h5py

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "K.h5"
    print(widegram.gram(NET, x, out, dtype="float64").tiles, "tile written")
    print(widegram.gram(NET, x, out, dtype="float64").entries, "entries to do the second time")
    with h5py.File(out) as file:
        print("largest difference:", np.abs(file["ntk"][:] - kernels.ntk).max())
