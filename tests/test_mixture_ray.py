"""Under Ray Data the mix is the same, byte for byte. Apart from the unit tests: to start a cluster
takes longer than all of them.
"""

import os
from pathlib import Path

import pytest
from support import synthetic

from bimedix_utils import mixture
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.provenance import hash_path

pytestmark = pytest.mark.chain
SETTINGS = mixture.MixSettings(shard_rows=70, validation_share=0.1)


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install -e ".[ray]"')
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def test_ray_gives_the_same_bytes(cluster, tmp_path: Path):
    synthetic.write(tmp_path, 600, seed=5, files=4, tests=0.02)
    inputs, tests = sorted(tmp_path.glob("train-*.jsonl")), tmp_path / "tests.jsonl"
    one = mixture.build_mix(inputs, tests, tmp_path / "one", SETTINGS)
    other = mixture.build_mix(inputs, tests, tmp_path / "ray", SETTINGS, workers=2, backend="ray")
    assert one == other and len(one["shards"]) > 3
    for shard in one["shards"]:
        assert (
            hash_path(tmp_path / "ray" / shard["file"])
            == shard["sha256"]
            == hash_path(tmp_path / "one" / shard["file"])
        )


def test_damage_found_by_a_worker_of_ray_is_named(cluster, tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text("{", encoding="utf-8")
    (tmp_path / "tests.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.jsonl, line 1: not a record"):
        mixture.build_mix(
            [tmp_path / "bad.jsonl"],
            tmp_path / "tests.jsonl",
            tmp_path / "out",
            SETTINGS,
            workers=2,
            backend="ray",
        )
