"""Real GeoTIFFs end to end, with a model whose answer at each pixel is known."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from qhybrid.data.statistics import BandStatistics
from qhybrid.inference import write_map

pytestmark = pytest.mark.shared_data

SCENES = [
    ("sentinel2_korea/test/images/202309_5.tif", (3, 2, 1)),
    ("geotiff_samples/rasterio_RGB.byte.tif", (1, 2, 3)),
    ("geotiff_samples/spacenet_sample_geotiff.tif", (1,)),
    ("geotiff_samples/naip_m_4709963_se_14_1_20100629.tif", (1, 2, 3, 4)),
]


@pytest.mark.parametrize(("name", "bands"), SCENES)
def test_map_of_a_pixelwise_model(run, shared_data, tmp_path, name, bands):
    image = shared_data / name
    with rasterio.open(image) as source:
        raw = source.read(bands).astype(np.float64)
        valid = source.dataset_mask() > 0
        crs, transform = source.crs, source.transform
    mean, std = raw[:, valid].mean(axis=1), raw[:, valid].std(axis=1)
    count = len(bands)
    model = nn.Conv2d(count, 3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, count, 1, 1, generator=torch.Generator().manual_seed(1)))
    data = run.recipe.data.model_copy(update={"bands": bands})
    low, high = np.percentile(raw[:, valid], (0.5, 99.5), axis=1)
    statistics = BandStatistics(bands, tuple(mean), tuple(std), tuple(low), tuple(high), int(valid.sum()))
    run = replace(
        run,
        model=model,
        bands=bands,
        statistics=statistics,
        patch_size=128,
        recipe=run.recipe.model_copy(update={"data": data}),
    )
    labels, probabilities = write_map(run, image, tmp_path / "map.tif", probabilities=True)

    standard = (raw - mean[:, None, None]) / std[:, None, None]
    logits = np.einsum("kc,chw->khw", model.weight[:, :, 0, 0].detach().numpy(), standard)
    logits += model.bias.detach().numpy()[:, None, None]
    expected = np.exp(logits) / np.exp(logits).sum(axis=0)
    with rasterio.open(probabilities) as written:
        found = written.read()
        assert (written.crs, written.transform) == (crs, transform)
    np.testing.assert_allclose(found[:, valid], expected[:, valid], atol=1e-4)
    assert np.isnan(found[:, ~valid]).all()
    with rasterio.open(labels) as written:
        assert (written.crs, written.transform) == (crs, transform)
        np.testing.assert_array_equal(written.read(1) == 255, ~valid)
        np.testing.assert_array_equal(written.read(1)[valid], found[:, valid].argmax(axis=0))
