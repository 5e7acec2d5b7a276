"""GPyTorch: a kernel object that computes those of a network, with scale and noise by evidence.

Digits are told apart as small or large by the sign of a regression. The network has no parameters
that torch could differentiate; what is learnt are the ScaleKernel around it and the noise.
"""

import gpytorch
import torch
from sklearn.datasets import load_digits
from sklearn.utils import shuffle

import widegram


class NetworkKernel(gpytorch.kernels.Kernel):
    """The NNGP or NTK of a network; inputs (..., n, numbers) are rows of its numbers.

    It has no derivative by its inputs: inputs that require one are refused.
    """

    def __init__(self, network, kernel="nngp", **options):
        super().__init__(**options)
        self.network, self.name = network, kernel

    def forward(self, x1, x2, diag=False, last_dim_is_batch=False, **parameters):
        """K(x1, x2) (..., n1, n2), or its diagonal, of the dtype and device of the inputs."""
        if last_dim_is_batch or x1.requires_grad or x2.requires_grad:
            raise NotImplementedError(
                "NetworkKernel: no derivative by the inputs, and no last_dim_is_batch"
            )
        batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        pairs = zip(*(matrices(x, batch) for x in (x1, x2)), strict=True)
        of_pair = self.diagonal if diag else self.matrix
        found = torch.stack([of_pair(*pair) for pair in pairs])
        return found.reshape(*batch, *found.shape[1:]).to(x1)

    def matrix(self, rows, cols):
        """K(rows, cols) (n1, n2) of one batch."""
        other = None if rows.equal(cols) else cols.numpy(force=True)
        found = widegram.kernel(self.network, rows.numpy(force=True), other, self.name, "float64")
        return torch.from_numpy(found)

    def diagonal(self, rows, cols):
        """The diagonal (n,) of one batch; of the matrix no more than small blocks is computed."""
        blocks = zip(rows.split(64), cols.split(64), strict=True)
        return torch.cat([self.matrix(*block).diagonal() for block in blocks])


def matrices(x, batch):
    """The matrices of x (..., n, numbers), one for each place in the shape ``batch``."""
    return x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])


class Model(gpytorch.models.ExactGP):
    """A constant mean, and the kernel scaled."""

    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(NetworkKernel("fcn:depth=2"))

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


images, digits = shuffle(*load_digits(return_X_y=True), random_state=0)  # writers lie together
x = torch.from_numpy(images / 16.0)
y = torch.where(torch.from_numpy(digits) < 5, -1.0, 1.0).double()
likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
model = Model(x[:300], y[:300], likelihood).double()
evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")


def loss():
    """-log evidence for each training row, and its gradient."""
    optimizer.zero_grad()
    found = -evidence(model(x[:300]), y[:300])
    found.backward()
    return found


optimizer.step(loss)
best = -loss().item()
model.eval()
likelihood.eval()
with torch.no_grad():
    found = likelihood(model(x[300:600]))
inside = ((y[300:600] - found.mean).abs() < 1.96 * found.stddev).double().mean()
print(f"log evidence for each row {best:.4f}")
print(f"scale {model.covar_module.outputscale.item():.3g}, noise {likelihood.noise.item():.3g}")
print(f"inside of 95 %: {inside.item():.3f}")
print(f"accuracy {((found.mean > 0) == (y[300:600] > 0)).double().mean().item():.4f}")
