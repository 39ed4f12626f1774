"""The profiles: what is in them, and what `use_profile` keeps, refuses and backs up."""

from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import pytest
import timm
import torch
import yaml
from conftest import profile_params

from invad.config import MVADConfig, ScoreConfig, load_params
from invad.config.constants import PUBLISHED_DATASETS, STRIDES
from invad.config.params_file import add_benchmark, update_download
from invad.config.profiles import PROFILES, list_profiles, profile_text, use_profile
from invad.data.datasets import DATASETS
from invad.data.embedded import GENERATORS
from invad.errors import InputError
from invad.features.batches import Batch
from invad.methods import EncoderOutput, build_method
from invad.training.cost import count_multiply_adds

REPOSITORY = Path(__file__).parents[2]
TABLE = {"source": "path", "path": "/data/leather", "table": "data/import/leather.csv"}


@pytest.fixture
def params_file(tmp_path) -> Path:
    """A params.yaml with the profile `quick`."""
    path = tmp_path / "params.yaml"
    path.write_text(profile_text("quick"))
    return path


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def raw(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_quick_is_the_repositorys_own_settings_to_the_byte():
    assert profile_text("quick") == (REPOSITORY / "params.yaml").read_bytes().decode()


@pytest.mark.parametrize("name", PROFILES)
def test_the_profiles_come_with_the_package_and_are_valid(name):
    assert files("invad.config.profiles").joinpath(f"{name}.yaml").is_file()
    params = profile_params(name)
    others = [f"mvtec_{method}" for method in ("simplenet", "uniad", "dinomaly", "draem", "destseg", "tocoad")]
    more = {"all": ["btad", "vad", "realiad", *others], "paper-mvad": ["realiad"]}.get(name, [])
    assert list(params.benchmarks) == ["coco_ad_0", "coco_ad_1", "coco_ad_2", "coco_ad_3", "mvtec", "visa", *more]


def test_the_profile_all_has_every_data_set_generated_at_toy_size():
    download = profile_params("all").download
    assert list(download) == list(PUBLISHED_DATASETS) == list(DATASETS) == list(GENERATORS)
    assert {one.source for one in download.values()} == {"embedded"}
    assert {one.image_size for one in download.values()} == {96}


@pytest.mark.parametrize("name", PROFILES)
def test_no_line_is_folded_when_dvc_writes_the_settings_of_an_experiment(name):
    lines = [line for line in profile_text(name).splitlines() if not line.startswith("#")]
    assert max(map(len, lines)) <= 80


def test_the_list_describes_each_profile_by_its_first_line():
    assert [name for name, _ in list_profiles()] == [*PROFILES]
    for name, description in list_profiles():
        assert f"# {description}\n" == profile_text(name).splitlines(keepends=True)[0]


@pytest.mark.parametrize("name", [*PROFILES][1:])
def test_a_profile_keeps_the_comments_and_the_order_of_the_default_below_its_own_title(name):
    ours, quick = profile_text(name).splitlines(), profile_text("quick").splitlines()
    comments = [line for line in quick if line.startswith("#")][1:]
    assert [line for line in ours if line.startswith("#")][-len(comments) :] == comments
    assert list(yaml.safe_load(profile_text(name))) == list(yaml.safe_load(profile_text("quick")))


def test_the_profiles_of_other_methods_hold_their_published_settings():
    ours = ("paper-lite", "paper-short")
    others = [name for name in PROFILES if name.startswith("paper-") and name not in ours]
    found = {
        name.removeprefix("paper-"): profile_params(name).benchmark("realiad" if name == "paper-mvad" else "mvtec")
        for name in others
    }
    assert {name: one.train.model for name, one in found.items()} == {name: name for name in found}
    assert {name: one.features.levels for name, one in found.items()} == {
        "rd": STRIDES,
        "patchcore": (8, 16),
        "simplenet": (8, 16),
        "uniad": (2, 4, 8, 16),
        "dinomaly": ((2, 3, 4, 5), (6, 7, 8, 9)),
        "draem": STRIDES,
        "destseg": STRIDES,
        "mvad": STRIDES,
        "tocoad": (4, 8, 16, 32),
    }
    assert found["mvad"].train == MVADConfig()
    assert {found[name].train.recipe for name in ("rd", "simplenet", "uniad", "destseg")} == {"re-run"}
    own_blur = {name for name, one in found.items() if one.score.sigma == "method"}
    assert own_blur == {"uniad", "dinomaly", "draem", "destseg"}
    assert {one.features.image_size for one in found.values()} == {256, 392}
    assert {one.features.weights for one in found.values()} <= {*timm.list_pretrained(), "none"}


def test_the_short_profile_is_the_papers_but_for_the_epochs_of_coco_ad():
    short, paper = (profile_params(name).benchmarks for name in ("paper-short", "paper"))
    assert [benchmark.train.epochs for benchmark in short.values()] == [10, 10, 10, 10, 300, 100]
    for name, benchmark in short.items():
        train = replace(benchmark.train, epochs=paper[name].train.epochs)
        assert replace(benchmark, train=train) == paper[name]


def test_an_unknown_profile_is_an_error_that_lists_the_known_ones(params_file):
    for ask in (profile_text, lambda name: use_profile(name, params_file)):
        with pytest.raises(
            InputError, match=r"unknown profile 'papier'; known are quick, paper, paper-lite, all, paper-rd, "
        ):
            ask("papier")


@pytest.mark.parametrize(
    ("name", "encoder", "tag", "blocks", "weight"),
    [("paper", "wide_resnet50_2", "racm_in1k", 2, 1.0), ("paper-lite", "resnet34", "bt_in1k", 4, 5.0)],
)
def test_the_paper_profiles_hold_the_published_recipe(name, encoder, tag, blocks, weight):
    params = profile_params(name)
    assert {config.source for config in params.download.values()} == {"official"}
    assert params.dataset("mvtec").accept_license is False  # only the user can
    assert (params.training.workers, params.training.resources_per_worker.gpu) == (1, "auto")
    plain = {"precision": "float32", "channels_last": True, "compile": False}
    for benchmark in params.benchmarks.values():
        features, train = asdict(benchmark.features), asdict(benchmark.train)
        assert (features.pop("encoder"), features.pop("weights")) == (encoder, f"{encoder}.{tag}")
        mode = "live" if benchmark.dataset == "coco" else "store"
        stored = {"image_size": 256, "dtype": "float16", "batch_size": 16, "mode": mode, "levels": STRIDES}
        assert features == stored | plain
        assert train == {
            **plain,
            "model": "invad",
            "epochs": 300 if benchmark.name == "mvtec" else 100,
            "batch_size": 32,
            "learning_rate": 0.004,
            "loss_weight": weight,
            "style_channels": 64,
            "latent_channels": 16,
            "blocks": blocks,
            "seed": 42,
            "loss": "l2",
            "standardised": False,
            "modulation": "space-aware",
            "modulation_terms": "both",
            "normalisation": "layer",
            "upsampler": "rescaling",
            "style_translator": True,
            "aggregation": "strided",
        }
        assert benchmark.score.sigma == 4.0
    assert [params.benchmark(f"coco_ad_{fold}").splits.fold for fold in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "trainable", "total"), [("paper", 70_768_560, 95_631_088), ("paper-lite", 8_976_240, 17_146_544)]
)
@pytest.mark.slow
def test_the_models_of_the_paper_profiles_have_the_published_sizes(name, trainable, total):
    """Built without memory or values; `total` adds the encoder up to stride 16."""
    for benchmark in profile_params(name).benchmarks.values():
        with torch.device("meta"):
            encoder = timm.create_model(benchmark.features.encoder, features_only=True, out_indices=(1, 2, 3))
            channels = encoder.feature_info.channels()
            method = build_method(
                EncoderOutput(benchmark.features.encoder, channels, benchmark.features.image_size), benchmark.train
            )
        assert tuple(encoder.feature_info.reduction()) == STRIDES
        assert parameters(method) == trainable
        assert parameters(method) + parameters(encoder) == total


@pytest.mark.parametrize(
    ("name", "encoder", "total"), [("paper", 12.034e9, 45.394e9), ("paper-lite", 3.955e9, 9.283e9)]
)
def test_the_models_of_the_paper_profiles_have_the_published_multiply_adds(name, encoder, total):
    benchmark = profile_params(name).benchmark("mvtec")
    with torch.device("meta"):
        network = timm.create_model(benchmark.features.encoder, features_only=True, out_indices=(1, 2, 3)).eval()
        output = EncoderOutput(benchmark.features.encoder, network.feature_info.channels(), 256)
        method = build_method(output, benchmark.train).eval()
        image, features = torch.empty(1, 3, 256, 256), [torch.empty(1, *shape) for shape in output.shapes]
    of_encoder = count_multiply_adds(lambda: network(image))
    of_method = count_multiply_adds(lambda: method.predict(Batch(tuple(features)), ScoreConfig()))
    assert of_encoder == pytest.approx(encoder, rel=0.005)
    assert of_encoder + of_method == pytest.approx(total, rel=0.005)


def test_the_weights_of_the_paper_profiles_are_tags_of_timm():
    for name in ("paper", "paper-lite"):
        assert profile_params(name).benchmark("mvtec").features.weights in timm.list_pretrained()


@pytest.mark.parametrize(("name", "megabytes", "gigabytes"), [("paper", 3.67, 1000), ("paper-lite", 0.92, 250)])
def test_the_sizes_that_the_comments_give_are_right(name, megabytes, gigabytes):
    features = profile_params(name).benchmark("mvtec").features
    with torch.device("meta"):
        channels = timm.create_model(
            features.encoder, features_only=True, out_indices=(1, 2, 3)
        ).feature_info.channels()
    image = sum(2 * width * (256 // stride) ** 2 for width, stride in zip(channels, STRIDES, strict=True))
    images = 30_438 + 65_133 + 79_083 + 77_580 + 4 * 4_952  # of COCO-AD's folds: train, test
    comment = " ".join(profile_text(name).replace("\n#", "").split())
    assert f"{megabytes} MB an image and about {gigabytes} GB for the four COCO-AD folds" in comment
    assert image / 1e6 == pytest.approx(megabytes, abs=0.005)
    assert image * images / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_a_profile_is_written_where_there_are_no_settings_yet(tmp_path):
    path = tmp_path / "params.yaml"
    assert use_profile("paper", path) == ([], None)
    assert path.read_text() == profile_text("paper")


def test_profiles_replace_each_other_and_every_old_file_stays_beside_the_new_one(params_file):
    edit(params_file, "  visa: {sigma: 2.0}\n", "  visa: {sigma: 2.0}  # as ever\n")
    before = params_file.read_bytes()
    assert use_profile("paper", params_file) == ([], params_file.with_name("params.yaml.bak"))
    assert params_file.read_text() == profile_text("paper")
    assert use_profile("paper", params_file) == ([], None)
    assert use_profile("quick", params_file) == ([], params_file.with_name("params.yaml.bak2"))
    assert params_file.read_text() == profile_text("quick")
    assert params_file.with_name("params.yaml.bak").read_bytes() == before
    assert params_file.with_name("params.yaml.bak2").read_text() == profile_text("paper")
    assert use_profile("quick", params_file) == ([], None)
    assert len(list(params_file.parent.iterdir())) == 3


@pytest.mark.parametrize("name", ["paper", "quick"])
@pytest.mark.slow
def test_the_users_own_folders_stay_and_nothing_of_the_profiles_source_beside_them(params_file, name):
    use_profile("paper-lite", params_file)
    update_download(params_file, "coco", {"source": "path", "path": "/data/coco"})
    update_download(params_file, "mvtec", {"source": "path", "path": "/data/mvtec", "accept_license": True})
    kept, _ = use_profile(name, params_file)
    assert kept == ["download.coco", "download.mvtec"]
    expected = yaml.safe_load(profile_text(name))
    expected["download"]["coco"] = {"source": "path", "path": "/data/coco"}
    expected["download"]["mvtec"] = {"source": "path", "path": "/data/mvtec", "accept_license": True}
    assert raw(params_file) == expected


@pytest.mark.slow
def test_how_the_official_data_are_got_survives_a_profile_that_gets_them_too(params_file):
    use_profile("paper", params_file)
    edit(params_file, "accept_license: false", "accept_license: true")
    edit(params_file, "coco: {source: official}", "coco: {source: official, store: /big/coco, keep_archives: false}")
    edited = raw(params_file)
    assert use_profile("paper-lite", params_file)[0] == ["download.coco", "download.mvtec"]
    assert raw(params_file)["download"] == edited["download"]
    assert raw(params_file)["train"] == yaml.safe_load(profile_text("paper-lite"))["train"]
    assert use_profile("paper", params_file)[0] == ["download.coco", "download.mvtec"]
    assert raw(params_file) == edited
    comments = [line for line in profile_text("paper").splitlines() if line.startswith("#")]
    assert [line for line in params_file.read_text().splitlines() if line.startswith("#")] == comments
    assert use_profile("quick", params_file)[0] == []


def test_what_another_profile_ships_is_not_taken_for_the_users_choice(params_file):
    use_profile("paper", params_file)
    assert use_profile("quick", params_file)[0] == []
    assert "images" not in raw(params_file)["download"]["coco"]


@pytest.mark.slow
def test_the_users_own_data_sets_stay_whole_with_all_their_benchmarks(params_file):
    add_benchmark(params_file, "leather", download=TABLE, splits={"seed": 1, "test_share": 0.3})
    settings = raw(params_file)
    settings["benchmarks"]["small"] = {"dataset": "leather", "settings": "small"}
    settings["splits"]["small"] = {"seed": 2}
    settings["calibration"]["small"] = settings["calibration"]["leather"] | {"share": 0.5}
    settings["features"]["small"] = {"encoder": "resnet18", "weights": "none"}
    settings["train"]["small"] = {"epochs": 1}
    settings["score"]["small"] = {"sigma": 1.5}
    params_file.write_text(yaml.safe_dump(settings, sort_keys=False))
    own = {
        section: {k: v for k, v in values.items() if k in ("leather", "small")}
        for section, values in raw(params_file).items()
    }

    kept, _ = use_profile("paper", params_file)
    assert kept == [
        "download.leather",
        *(f"{section}.leather" for section in ("benchmarks", "splits", "calibration", "features", "train", "score")),
        *(f"{section}.small" for section in ("benchmarks", "splits", "calibration", "features", "train", "score")),
    ]
    expected = yaml.safe_load(profile_text("paper"))
    for section, values in own.items():
        expected[section] |= values
    assert raw(params_file) == expected
    added = [line for line in params_file.read_text().splitlines() if line not in profile_text("paper").splitlines()]
    assert not any(line.startswith("#") for line in added)


def test_a_data_set_whose_name_yaml_reads_as_a_number_stays_too(params_file):
    add_benchmark(params_file, "2024", download=TABLE, splits={"seed": 1})
    assert use_profile("paper", params_file)[0][:2] == ["download.2024", "benchmarks.2024"]
    assert load_params(params_file).benchmark("2024").splits.seed == 1


@pytest.mark.slow
def test_an_added_data_set_comes_back_with_the_first_profile(params_file):
    add_benchmark(params_file, "leather", download=TABLE, splits={"seed": 1})
    before = params_file.read_text()
    use_profile("paper-lite", params_file)
    use_profile("quick", params_file)
    assert params_file.read_text() == before


@pytest.mark.slow
def test_an_own_benchmark_of_a_published_name_wins_over_the_profiles(params_file):
    add_benchmark(params_file, "leather", download=TABLE, splits={"seed": 1})
    edit(params_file, "  visa: {dataset: visa,", "  visa: {dataset: leather,")
    edit(params_file, "  visa: {strict: true}\n", "  visa: {seed: 4}\n")
    use_profile("paper", params_file)
    params = load_params(params_file)
    assert (params.benchmark("visa").dataset, params.benchmark("visa").splits.seed) == ("leather", 4)


def test_settings_that_are_not_valid_are_an_error_and_stay(params_file):
    edit(params_file, "fold: 3", "fold: 9")
    before = params_file.read_bytes()
    with pytest.raises(InputError, match=r"params\.yaml: splits\.coco\.fold: must be less than 4"):
        use_profile("paper", params_file)
    assert params_file.read_bytes() == before
