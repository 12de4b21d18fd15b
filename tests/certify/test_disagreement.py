import pytest
from scipy.stats import binomtest

from vitlet.certify.disagreement import upper_bound
from vitlet.errors import InvalidValue


@pytest.mark.parametrize(("changed", "images"), [(0, 50), (1, 50), (12, 1000), (999, 1000), (1000, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_is_scipys_exact_bound(changed, images, confidence):
    exact = binomtest(changed, images, alternative="less").proportion_ci(confidence, "exact").high
    assert upper_bound(changed, images, confidence) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("changed", "images"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_do_not_go_together(changed, images):
    with pytest.raises(InvalidValue, match=f"{changed} changed of {images} images do not go together"):
        upper_bound(changed, images)
