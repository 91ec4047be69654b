from __future__ import annotations

import pytest
import torch

from qhybrid.engines.exact.sample_product import sample_product

F64 = torch.float64


def operands(stack=2, m=3, k=4, r=5, batch=6):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(stack, m, k, batch, dtype=F64, generator=generator)
    return first, torch.randn(stack, k, r, batch, dtype=F64, generator=generator)


def reference(first, second):
    return torch.einsum("nmkb,nkrb->nmrb", first, second)


@pytest.mark.parametrize("sizes", [{}, {"stack": 1}, {"m": 1, "r": 1}, {"k": 1}, {"batch": 1}, {"batch": 0}])
def test_values_agree_with_einsum_and_keep_samples_last(sizes):
    first, second = operands(**sizes)
    found = sample_product(first, second)
    torch.testing.assert_close(found, reference(first, second))
    assert found.is_contiguous()


def test_first_and_second_derivatives():
    leaves = [tensor.requires_grad_() for tensor in operands(batch=2)]
    assert torch.autograd.gradcheck(sample_product, leaves)
    assert torch.autograd.gradgradcheck(sample_product, leaves)


def test_functional_transforms():
    first, second = operands(stack=1, m=2, k=2, r=2, batch=2)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        for which in (0, 1):
            torch.testing.assert_close(
                transform(sample_product, which)(first, second), transform(reference, which)(first, second)
            )
    many = torch.stack([first, 2 * first])
    mapped = torch.func.vmap(sample_product, (0, None))(many, second)
    torch.testing.assert_close(mapped[1], reference(2 * first, second))
    hessian = torch.func.hessian(lambda a: sample_product(a, second).square().sum())(first)
    torch.testing.assert_close(
        hessian, torch.func.hessian(lambda a: reference(a, second).square().sum())(first)
    )
