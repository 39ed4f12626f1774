"""Studies without Ray: modules and variants, settings, names, synthetic defects, validation split, one trial, feature stores."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import REPOSITORY, profile_params, save_image
from studies_toys import tiny_workspace
from toys import image_split

from invad.config import InvADConfig, PatchCoreConfig, RDConfig, SimpleNetConfig, UniADConfig, load_params
from invad.config.methods import INVAD_QUICK
from invad.data.images import read_image, read_mask
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.extract import run_here
from invad.files import write_json
from invad.studies import trial as trials
from invad.studies import validation
from invad.studies.ablation import ablation_of_params, plan_ablation, run_ablation
from invad.studies.modules import MODULES, module_named
from invad.studies.runner import StudyOptions, features_folder, prepare, trial_split
from invad.studies.study import SECTIONS, Study, apply, parse_set
from invad.studies.trial import RESULT_FILE, TrialResult, TrialTask, attempt, read_result, run_task, trial_folder
from invad.studies.validation import AREA, add_defect, rows_for_training, validation_split
from invad.training.checkpoints import newest_step
from invad.training.cost import model_cost
from invad.training.job import TrainJob, run_job
from invad.training.model_folder import ModelConfig, save_model


@pytest.fixture(scope="module")
def benchmark():
    return load_params(REPOSITORY / "params.yaml").benchmark("mvtec")


@pytest.fixture(scope="module")
def paper():
    return profile_params("paper").benchmark("mvtec")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Settings, workspace and split of a tiny benchmark."""
    params, workspace = tiny_workspace(tmp_path_factory.mktemp("studies"))
    return params, workspace, open_split(params.benchmark("mvtec"), workspace).absolute()


OF_METHODS = ("mvad", "patchcore", "tocoad")  # modules for benchmarks of that method


def of_method(module, benchmark):
    """The benchmark that a module is for: one of its method in the published recipe, or `benchmark`."""
    if module.name not in OF_METHODS:
        return benchmark
    return profile_params(f"paper-{module.name}").benchmark("realiad" if module.name == "mvad" else "mvtec")


def flat(benchmark):
    """All values that `apply` can change, by dotted key."""
    return {f"{part}.{key}": value for part in SECTIONS for key, value in asdict(getattr(benchmark, part)).items()}


# Modules and variants


def test_the_modules_are_the_method_and_those_of_the_paper():
    expected = "method ssm style upsampler aggregation norm loss quick latent blocks encoder size batch epochs map"
    assert [name for name in MODULES if name not in OF_METHODS] == expected.split()


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
def test_every_module_marks_one_variant_which_is_the_papers(module, paper):
    assert len({variant.name for variant in module.variants}) == len(module.variants)
    (marked,) = [variant for variant in module.variants if variant.is_paper]
    said = {"score.map_levels": "concatenated", "score.map_distance": "cosine", "train.epochs": 100}
    values = flat(apply(of_method(module, paper), {} if module.name in OF_METHODS else said))
    assert {key: values[key] for key in marked.changes} == dict(marked.changes)


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
def test_the_variants_of_a_module_say_the_same_keys_and_are_valid_settings(module, benchmark):
    benchmark = of_method(module, benchmark)
    keys = [frozenset(variant.changes) for variant in module.variants]
    assert len(set(keys)) == 1 or (module.name == "method" and all("train.model" in each for each in keys))
    changed = [apply(benchmark, variant.changes, methods=True) for variant in module.variants]
    for variant, settings in zip(module.variants, changed, strict=True):
        assert {key: flat(settings)[key] for key in variant.changes} == dict(variant.changes)
    assert len({json.dumps(flat(settings), sort_keys=True) for settings in changed}) == len(changed)


def test_the_weights_of_the_encoders_are_known_to_timm():
    tags = [variant.changes["features.weights"] for variant in MODULES["encoder"].variants]
    assert set(tags) - {"packaged"} <= set(timm.list_pretrained())


def test_size_and_batch_bring_what_goes_with_them():
    assert {v.changes["score.sigma"] for v in MODULES["size"].variants} == {2.0, 3.0, 4.0, 5.0}
    assert [v.changes["train.learning_rate"] for v in MODULES["batch"].variants] == [0.001, 0.002, 0.004, 0.008]


def test_the_changes_for_few_steps_are_those_of_the_default_profile(benchmark):
    paper, *others = MODULES["quick"].variants
    changed = [
        {key for key, value in one.changes.items() if value != before.changes[key]}
        for before, one in zip([paper, *others], others, strict=False)
    ]
    assert [len(keys) for keys in changed] == [1, 1, 1, 2, 1]
    settings = {key.removeprefix("train."): value for key, value in others[-2].changes.items() if "train." in key}
    assert settings == {"learning_rate": 0.016} | INVAD_QUICK
    assert benchmark.train == InvADConfig(**settings, epochs=15, batch_size=8)


def test_variants_are_chosen_by_name_in_the_modules_order():
    names = [variant.name for variant in MODULES["ssm"].choose(["none", "paper"])]
    assert names == ["space-aware", "none"]
    assert MODULES["ssm"].choose([]) == MODULES["ssm"].variants
    methods = MODULES["method"]
    assert {variant.name for variant in methods.variants} - {one.name for one in methods.choose([])} == {
        "dinomaly",
        "draem",
        "destseg",
        "tocoad",
    }
    assert [variant.name for variant in methods.choose(["draem", "rd"])] == ["rd", "draem"]


def test_an_unknown_module_or_variant_is_an_error_that_lists_the_known_ones():
    with pytest.raises(InputError, match=r"^unknown module 'smm'; known are method, ssm, .*map, patchcore, tocoad$"):
        module_named("smm")
    with pytest.raises(InputError, match=r"^unknown variant 'x' of the module blocks; known are 1, 2, 4$"):
        MODULES["blocks"].choose(["1", "x"])


# Settings


def test_values_are_read_as_in_params_yaml():
    changes = parse_set(
        ["train.epochs=3", "train.learning_rate=1e-3", "features.weights=none", "train.style_translator=false"]
    )
    assert changes == {
        "train.epochs": 3, "train.learning_rate": 0.001, "features.weights": "none", "train.style_translator": False
    }  # fmt: skip


def test_a_key_may_be_written_as_params_yaml_and_dvc_write_it(benchmark):
    by_name = apply(benchmark, parse_set([f"train.{benchmark.name}.epochs=3", f"score.{benchmark.name}.sigma=1.5"]))
    assert by_name == apply(benchmark, {"train.epochs": 3, "score.sigma": 1.5})
    with pytest.raises(InputError, match=r"^--set train\.other\.epochs: unknown key; known are "):
        apply(benchmark, {"train.other.epochs": 3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["epochs"], "--set epochs: expected key=value"),
        (["train.epochs=[1"], "--set train.epochs: '[1' is no value"),
        (["epochs=3"], "--set epochs: unknown key; a key begins with features., train., score."),
        (["train.epohs=3"], "--set train.epohs: unknown key; known are precision, "),
        (["calibration.share=0"], "--set calibration.share: unknown key; a key begins with"),
        (["train.epochs=many"], "--set train.epochs: must be a valid integer"),
        (["train.epochs=0"], "--set train.epochs: must be greater than or equal to 1"),
        (["features.image_size=100"], "--set features.image_size: must be a multiple of 16"),
        (["train.model=rd"], "--set train.model: mvtec is of invad"),
        (["train.loss=l3"], "--set train.loss: must be 'l2'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(settings, message, benchmark):
    with pytest.raises(InputError) as caught:
        apply(benchmark, parse_set(settings))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_apply_changes_what_it_is_told_and_nothing_else(benchmark):
    changed = apply(benchmark, {"train.blocks": 4, "score.sigma": 1.0})
    once = benchmark.of_seed(benchmark.train.seed)  # a study has seeds of its own
    assert changed == replace(once, train=replace(once.train, blocks=4), score=replace(once.score, sigma=1.0))
    assert apply(benchmark, {}) == once


def test_a_module_of_invad_does_not_fit_another_method(params_dict, write_params):
    params_dict["train"]["mvtec"] = {"model": "rd"}
    params = load_params(write_params(params_dict))
    with pytest.raises(InputError, match=r"ssm space-aware: train.modulation: unknown key; known are "):
        plan_ablation("ssm", StudyOptions("mvtec"), params)
    assert plan_ablation("size", StudyOptions("mvtec"), params).trials()


def test_another_method_has_its_own_defaults_and_the_benchmarks_epochs_where_it_has_some(benchmark):
    base = apply(benchmark, {"train.epochs": 7, "train.seed": 3, "train.blocks": 4, "score.map_levels": "sum"})
    found = {one.variant: one.benchmark for one in plan_of(base, "method")}
    assert {name: one.train for name, one in found.items()} == {
        "invad": base.train,
        "rd": RDConfig(epochs=7, seed=3, recipe="re-run"),
        "patchcore": PatchCoreConfig(seed=3),
        "memory-bank": PatchCoreConfig(seed=3, share=1.0, most_vectors=30_000),
        "simplenet": SimpleNetConfig(epochs=7, seed=3, recipe="re-run"),
        "uniad": UniADConfig(epochs=7, seed=3),
    }
    assert found["invad"].score == base.score
    own = {"map_levels": "method", "map_distance": "method", "sigma": "method", "image_score": "method"}
    assert found["rd"].score == replace(base.score, **own)
    assert found["uniad"].features.levels == (2, 4, 8, 16)
    # From a method without epochs back to one that has some.
    memory = apply(benchmark, {"train.model": "patchcore"}, methods=True)
    assert apply(memory, {"train.model": "invad"}, methods=True).train == replace(InvADConfig(), seed=42)


def test_a_method_that_does_not_take_the_features_is_named(benchmark):
    with pytest.raises(InputError, match=r"^method rd: features\.image_size: must be a multiple of 32"):
        plan_of(apply(benchmark, {"features.image_size": 48}), "method")


# Trials and their names


def study_of(benchmark, module="ssm", names=(), seeds=1, **more):
    known = MODULES[module]
    return Study(module, benchmark, known.choose(names), seeds, **more)


def plan_of(benchmark, module):
    return study_of(benchmark, module).trials()


def test_trials_are_variants_times_seeds_from_the_bases_seed(benchmark):
    found = study_of(benchmark, names=["paper", "none"], seeds=3).trials()
    assert [(one.variant, one.seed) for one in found] == [
        (name, seed) for name in ("space-aware", "none") for seed in (42, 43, 44)
    ]
    assert {one.benchmark.train.seed for one in found} == {42, 43, 44}


def test_names_say_what_determines_a_result(benchmark, tmp_path):
    split = image_split(tmp_path, 4, 2)
    study = study_of(benchmark)

    def names(study, split=split, data="data"):
        study = study.of(split, data)
        return study.folder, [study.trial(trial) for trial in study.trials()]

    folder, ids = names(study)
    assert len(set(ids)) == 5
    assert ids[0].startswith("space-aware-s42-")
    more = names(study_of(benchmark, seeds=2, names=["paper"]))
    assert more[0] == folder
    assert more[1][0] == ids[0]
    other_base = replace(benchmark, train=replace(benchmark.train, epochs=7))
    others = [
        names(study_of(other_base)),
        names(study, data="other data"),
        names(study, split=replace(split, rows=split.rows[1:])),
        names(study_of(benchmark, validation_share=0.2)),
    ]
    for other_folder, other_ids in others:
        assert other_folder != folder
        assert not set(ids) & set(other_ids)


def test_variants_of_the_map_share_a_training(benchmark, tmp_path):
    split = image_split(tmp_path, 4, 2)
    for module, trainings in (("map", 1), ("blocks", 3)):
        study = study_of(benchmark, module).of(split, "data")
        assert len({study.training(trial) for trial in study.trials()}) == trainings


# Results


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = TrialResult("none", 43, "finished", "", 10, 20, 1.5, 3, "CPU", {"mad": 0.5, "image_ap": None})
    assert read_result(tmp_path) is None
    write_json(tmp_path / RESULT_FILE, asdict(result))
    assert read_result(tmp_path) == result
    (tmp_path / "result.json").write_text('{"variant": "none"}')
    with pytest.raises(InputError, match=r"result\.json: not the result of a trial; remove it"):
        read_result(tmp_path)


def test_a_study_that_is_there_wants_to_be_told_what_to_do(tmp_path):
    write_json(tmp_path / "trials/a" / RESULT_FILE, asdict(TrialResult("a", 1, "finished")))
    write_json(tmp_path / "trials/b" / RESULT_FILE, asdict(TrialResult("b", 1, "failed", "why")))
    with pytest.raises(InputError, match=r"1 of 3 trials finished; --resume goes on with it, --restart begins anew"):
        prepare(tmp_path, "abc", StudyOptions("x"))
    prepare(tmp_path, "abc", StudyOptions("x", resume=True))
    assert read_result(tmp_path / "trials" / "a") is not None
    assert read_result(tmp_path / "trials" / "b") is None  # it is tried again
    prepare(tmp_path, "bc", StudyOptions("x"))
    prepare(tmp_path, "abc", StudyOptions("x", restart=True))
    assert not (tmp_path / "trials").exists()


# Defects and validation


def test_defects_are_visible_marked_and_of_reasonable_size():
    """Over many images, plain ones among them; what lies outside the mask is not touched."""
    rng = np.random.default_rng(0)
    for number in range(150):
        shape = (int(rng.integers(24, 120)), int(rng.integers(24, 120)), 3)
        noise = rng.integers(0, 256, shape, np.uint8)
        image = (noise, np.full(shape, (0, 128, 255)[number % 3], np.uint8), noise // 4 + 90)[number // 50]
        before = image.copy()
        defective, mask = add_defect(image, noise[:30], rng)
        assert (image == before).all()
        assert (defective.shape, defective.dtype, mask.shape, mask.dtype) == (shape, np.uint8, shape[:2], bool)
        assert (defective[~mask] == image[~mask]).all()
        assert (defective[mask] != image[mask]).any(axis=-1).mean() > 0.95
        assert np.abs(defective[mask].astype(int) - image[mask]).max(axis=-1).mean() >= 16
        assert AREA[0] <= mask.mean() <= AREA[1]


@pytest.mark.slow
def test_the_validation_split_holds_out_normal_images_of_every_class(tiny, tmp_path):
    _, _, split = tiny
    train = split.phase("train")
    found, stay = validation_split(split, 0.2, 0, tmp_path / "a"), rows_for_training(split, 0.2, 0)
    held_out = [train[index] for index in range(len(train)) if index not in stay]
    classes = {row.class_name for row in train}
    assert {row.class_name for row in held_out} == classes == {train[index].class_name for index in stay}
    assert len(held_out) == round(0.2 * 12) * len(classes)
    rows = found.phase("test")
    assert len(rows) == len(found.rows) == 2 * len(held_out)
    for normal, defective in zip(rows[::2], rows[1::2], strict=True):
        assert (normal.label, normal.mask, defective.label) == (0, None, 1)
        good, bad = (read_image(found.image_path(row)) for row in (normal, defective))
        mask = read_mask(found.mask_path(defective))
        assert mask.any()
        assert (good[~mask] == bad[~mask]).all()
        assert (good != bad).any()


def test_the_validation_split_has_the_same_bytes_each_time_and_others_for_another_seed(tiny, tmp_path):
    _, _, split = tiny

    def content(name, seed):
        validation_split(split, 0.2, seed, tmp_path / name)
        written = {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.png")}
        return rows_for_training(split, 0.2, seed), written

    first = content("a", 0)
    assert content("b", 0) == first
    assert content("c", 1)[0] != first[0]
    assert not content("d", 1)[1].keys() & first[1].keys()  # a store of features knows images by their names
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.png")}
    content("a", 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.png")} == before


def test_the_validation_split_never_takes_all_images_anomalous_ones_or_large_ones(tmp_path, monkeypatch):
    split = image_split(tmp_path, 4, 2, size=90)
    assert len(rows_for_training(split, 0.99, 0)) == 1
    assert len(rows_for_training(split, 0.01, 0)) == 3
    rows = [replace(row, label=1) if index < 2 else row for index, row in enumerate(split.rows)]
    some = replace(split, rows=tuple(rows))
    assert {0, 1} <= set(rows_for_training(some, 0.99, 0))
    monkeypatch.setattr(validation, "_SIDES", (16, 40))
    found = validation_split(some, 0.99, 0, tmp_path / "anomalous")
    assert [read_image(found.image_path(row)).shape for row in found.rows] == [(40, 40, 3)] * 2
    with pytest.raises(InputError, match="class 'bottle': has a single normal training image"):
        validation_split(replace(split, rows=split.rows[3:]), 0.5, 0, tmp_path / "single")


# Feature stores


def stores_of(tiny, benchmark, *, test=True):
    _, workspace, split = tiny
    extracted = []

    def run(extraction, shards):
        extracted.append(extraction.config.image_size)
        yield from run_here(extraction, shards)

    study, seen = study_of(benchmark).of(split, "data"), trial_split(split, test=test)
    return lambda config: features_folder(study, workspace, run, config, seen), extracted


@pytest.mark.slow
def test_features_are_extracted_once_for_each_encoder_and_size(tiny):
    params, workspace, split = tiny
    benchmark = params.benchmark("mvtec")
    find, extracted = stores_of(tiny, benchmark)
    small = benchmark.features
    large = replace(small, image_size=64)
    folders = [find(config) for config in (small, large, small, replace(large, batch_size=16))]
    assert extracted == [32, 64]
    assert folders[0] == folders[2] != folders[1] == folders[3]
    assert folders[0].parent == workspace.private / "features"
    assert len(open_features(folders[1], "test", split, large)) == len(split.phase("test"))


@pytest.mark.slow
def test_the_benchmarks_own_features_are_used_where_they_fit(tiny):
    params, workspace, split = tiny
    benchmark = params.benchmark("mvtec")
    config = replace(benchmark.features, image_size=48)
    extract_features(split, config, workspace.features("mvtec"))
    find, extracted = stores_of(tiny, benchmark)
    assert find(config) == workspace.features("mvtec")
    assert extracted == []
    # The same but for the weights, which the store's settings do not tell.
    assert find(replace(config, weights="packaged")) != workspace.features("mvtec")
    assert extracted == [48]


def test_without_the_test_images_none_is_read(tmp_path, tiny):
    split = image_split(tmp_path, 5, 3)
    for row in split.phase("test"):
        split.image_path(row).unlink()
    benchmark = tiny[0].benchmark("mvtec")
    find, extracted = stores_of((tiny[0], tiny[1], split), benchmark, test=False)
    folder = find(benchmark.features)
    assert extracted == [32]
    assert not list(folder.glob("test-*"))


# One trial


def task_of(tiny, folder, module="map", names=("paper", "fine"), epochs=2, rows=None, **more):
    params, _, split = tiny
    benchmark = apply(params.benchmark("mvtec"), {"train.epochs": epochs})
    study = study_of(benchmark, module, names)
    study = study.of(split, "data")
    find, _ = stores_of(tiny, benchmark)
    found = [(study.trial(trial), trial) for trial in study.trials()]
    features = str(find(benchmark.features))
    storage = str(folder / "trained" / study.training(found[0][1]))
    job = TrainJob(features, split, benchmark.features, storage, found[0][1].benchmark.train, 2, 1, rows)
    return TrialTask(str(folder), tuple(found), job, **{"judged": split, "judged_features": features} | more)


@pytest.mark.slow
def test_a_task_trains_once_and_scores_every_trial(tiny, tmp_path, monkeypatch):
    trainings = []
    run_job = trials.run_job
    monkeypatch.setattr(trials, "run_job", lambda *args, **more: trainings.append(1) or run_job(*args, **more))
    task = task_of(tiny, tmp_path)
    run_task(task)
    first, second = (read_result(trial_folder(task.folder, name)) for name, _ in task.trials)
    assert len(trainings) == 1
    assert (first.variant, first.seed, first.status, first.epochs, first.device) == (
        "concatenated-cosine",
        42,
        "finished",
        2,
        "CPU",
    )
    assert (first.parameters, first.multiply_adds, first.seconds) == (
        second.parameters,
        second.multiply_adds,
        second.seconds,
    )
    assert first.seconds > 0
    assert set(first.metrics) == set(second.metrics) >= {"mad", "pixel_ap", "image_auroc", "region_aupro"}
    assert first.metrics["mad"] != second.metrics["mad"]
    assert not list(task.storage.glob("checkpoint-*"))
    # What is there is not scored again.
    more = task_of(tiny, tmp_path, names=("paper", "fine", "sum"))
    files = [trial_folder(task.folder, name) / "result.json" for name, _ in task.trials]
    before = [file.stat().st_mtime_ns for file in files]
    run_task(more)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert read_result(trial_folder(more.folder, more.trials[2][0])).status == "finished"


@pytest.mark.slow
def test_a_trial_gives_what_the_pipelines_own_scoring_gives(tiny, tmp_path):
    from invad import metrics
    from invad.scoring.score import score_images
    from invad.scoring.store import open_scores

    task = task_of(tiny, tmp_path)
    run_task(task)
    trial = task.trials[1][1]
    method, _ = run_job(task.job, torch.device("cpu"))
    config = ModelConfig.of(trial.benchmark, task.job.split, task.job.open_features().key)
    save_model(method, config, tmp_path / "model")
    score_images(trial.benchmark, task.job.split, Path(task.job.folder), tmp_path / "model", tmp_path / "scores")
    scores = open_scores(tmp_path / "scores")
    expected = metrics.evaluate(
        scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores, has_mask=scores.has_mask
    )
    assert read_result(trial_folder(task.folder, task.trials[1][0])).metrics == pytest.approx(expected["mean"]["paper"])


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_trial_goes_on_from_its_checkpoint_and_gives_the_same(tiny, tmp_path, monkeypatch):
    whole = task_of(tiny, tmp_path / "whole", names=["paper"])
    run_task(whole)
    task = task_of(tiny, tmp_path / "killed", names=["paper"])
    write, written = trials.write_json, []

    def write_and_die(path, value):
        write(path, value)
        written.append(value)
        if len(written) == 2:  # after step 4
            raise Killed

    monkeypatch.setattr(trials, "write_json", write_and_die)
    with pytest.raises(Killed):
        run_task(task)
    monkeypatch.undo()
    spent = json.loads((task.storage / "seconds.json").read_text())
    assert newest_step(task.storage) == 4
    run_task(task)
    first, second = (read_result(trial_folder(one.folder, one.trials[0][0])) for one in (whole, task))
    assert first.metrics == second.metrics
    assert second.seconds > spent
    assert whole.job.curve.read_bytes() == task.job.curve.read_bytes()


@pytest.mark.slow
def test_a_sample_is_judged_by_the_validation_images_and_not_trained_on_them(tiny, tmp_path):
    found, stay = validation_split(tiny[2], 0.2, 0, tmp_path / "validation"), rows_for_training(tiny[2], 0.2, 0)
    features = tmp_path / "validation-features"
    extract_features(found, tiny[0].benchmark("mvtec").features, features)
    task = task_of(tiny, tmp_path, "latent", ["16"], 3, stay, judged=found, judged_features=str(features))
    run_task(task)
    values = read_result(trial_folder(task.folder, task.trials[0][0])).metrics
    assert values["validation_score"] == pytest.approx(
        (values["image_auroc"] + values["pixel_auroc"] + values["pixel_ap"]) / 3
    )
    steps = len(task.job.curve.read_text().splitlines()) - 1
    assert steps == 3 * (len(stay) // 8)  # the images that are held out are not trained on


def test_a_failure_is_one_line_in_the_result_and_a_traceback_beside_it(tiny, tmp_path, monkeypatch):
    task = task_of(tiny, tmp_path)
    too_many = apply(task.trials[0][1].benchmark, {"train.batch_size": 99})
    task = replace(task, job=replace(task.job, train=too_many.train))
    attempt({"one": task}, "one")
    for name, _ in task.trials:
        result = read_result(trial_folder(task.folder, name))
        assert (result.status, result.error) == ("failed", "batch_size: 99 is more than the 36 training images")
        assert "Traceback" in (trial_folder(task.folder, name) / "traceback.txt").read_text()
        (trial_folder(task.folder, name) / "result.json").unlink()
    monkeypatch.setattr(trials, "run_task", lambda *_: 1 / 0)
    attempt({"one": task}, "one")
    assert read_result(trial_folder(task.folder, name)).error == "ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_the_multiply_adds_are_the_published_ones(paper):
    assert model_cost(paper).multiply_adds == pytest.approx(45.394e9, rel=0.005)


# The section of params.yaml


def test_the_options_of_a_stage_are_those_of_params_yaml(params_dict, write_params):
    params_dict["ablations"] = {
        "ssm": {"benchmark": "visa", "variants": ["paper", "none"], "seeds": 3, "set": {"train.epochs": 5}},
        "smm": {"benchmark": "visa"},
    }
    params = load_params(write_params(params_dict))
    options = ablation_of_params("ssm", params)
    assert options == StudyOptions("visa", {"train.epochs": 5}, resume=True, variants=("paper", "none"), seeds=3)
    found = plan_ablation("ssm", options, params).trials()
    assert len(found) == 6
    assert {trial.benchmark.train.epochs for trial in found} == {5}
    with pytest.raises(InputError, match=r"^params\.yaml: ablations\.smm: unknown module 'smm'; known are method, "):
        ablation_of_params("smm", params)
    with pytest.raises(InputError, match=r"^params\.yaml: ablations\.map: is missing; there are ssm, smm$"):
        ablation_of_params("map", params)


def test_an_image_that_is_damaged_is_named(tmp_path):
    split = image_split(tmp_path, 3, 1)
    save_image(split.image_path(split.rows[0])).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000\.png: not an image"):
        validation_split(split, 0.9, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_methods_are_trained_and_scored_side_by_side(tiny, tmp_path):
    benchmark = tiny[0].benchmark("mvtec")
    split, features = tiny[2], stores_of(tiny, benchmark)[0](benchmark.features)
    study, found = study_of(benchmark, "method", ["invad", "patchcore"]).of(split, "data"), {}
    for trial in study.trials():
        name, storage = study.trial(trial), tmp_path / trial.variant
        job = TrainJob(str(features), split, benchmark.features, str(storage), trial.benchmark.train, 2, 1)
        task = TrialTask(str(tmp_path), ((name, trial),), job, judged=split, judged_features=str(features))
        run_task(task)
        found[trial.variant] = task.result(name)
    assert {one.status for one in found.values()} == {"finished"}
    assert (found["invad"].epochs, found["patchcore"].epochs) == (2, 1)
    assert found["invad"].parameters > found["patchcore"].parameters == 0
    assert found["invad"].metrics["mad"] != found["patchcore"].metrics["mad"]


# What a study says while it runs


@pytest.mark.slow
def test_a_study_says_first_what_it_will_do_and_then_what_has_ended(tmp_path, monkeypatch, empty_database, capsys):
    """With Ray's part done here: one training after the other."""

    def run_trials(names, work, *, on_end, **_):
        for name in names:
            work(name)
            on_end(name, "")

    monkeypatch.setattr("invad.cluster.tune.run_trials", run_trials)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    params, workspace = tiny_workspace(tmp_path)
    options = StudyOptions("mvtec", variants=("paper", "coarse"), max_concurrent=1)
    run_ablation("map", options, params, workspace)
    plan, *after = capsys.readouterr().err.splitlines()
    assert plan == "map on mvtec: 2 trials, 0 finished before"
    assert "coarse, seed 42: finished" in "\n".join(after)
    assert after[-1].startswith("100%")
    assert "2/2" in after[-1]

    run_ablation("map", replace(options, variants=("paper", "coarse", "sum"), resume=True), params, workspace)
    plan, *after = capsys.readouterr().err.splitlines()
    assert plan == "map on mvtec: 3 trials, 2 finished before"
    assert "1/1" in after[-1]

    run_ablation("map", replace(options, resume=True, variants=("paper", "sum")), params, workspace)
    assert capsys.readouterr().err == "map on mvtec: 2 trials, 2 finished before\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak of a process")
def test_the_memory_of_a_trial_is_not_that_of_the_one_before_it_in_the_same_process():
    code = (
        "import numpy as np; from invad.training.cost import forget_peak_memory, peak_memory; "
        "np.ones(200_000_000, np.uint8); before = peak_memory(); forget_peak_memory(); print(before - peak_memory())"
    )
    less = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(less) > 150_000_000
