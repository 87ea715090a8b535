"""Data sets to pretrain on."""

import json

import cv2
import numpy as np
import pytest

from shadowtutor_ros.classes import ClassesError, ClassTable, COCO_NAMES, IGNORE, LVS
from shadowtutor_ros.evaluation.evaluator import save_mask
from shadowtutor_ros.pretraining.datasets import (
    coco_folder, DatasetError, decode_rle, draw_instances, hold_out, label_folder, places_of,
    scene_dataset)

PERSON, AUTO, BACKGROUND = LVS.find('person'), LVS.find('auto'), LVS.background
COCO = ClassTable.of(COCO_NAMES)


def square(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


# --- One table's classes as another's ---------------------------------------------------------

def test_classes_are_mapped_by_name_as_far_as_names_tell():
    wanted = ClassTable.of(['Person', 'car', 'vehicle: tram', 'animal: dog, horse', 'tree'])
    places = places_of(LVS, wanted)
    assert places.shape == (256,) and places.dtype == np.uint8
    # An auto may be a car, or not.
    assert places[:9].tolist() == [1, 0, IGNORE, 0, 4, 4, 0, 0, 0]
    assert (places[9:] == IGNORE).all()
    # All parts of the union are of one class.
    assert places_of(LVS, ClassTable.of(['traffic: car, bus, truck, tram']))[AUTO] == 1
    assert places_of(wanted, LVS)[:6].tolist() == [8, PERSON, AUTO, 8, IGNORE, 8]
    assert places_of(LVS, LVS)[:9].tolist() == list(range(9))
    # By name too what is background to the one alone.
    floor = ClassTable.of(['crate', 'floor'], background=1)
    assert places_of(floor, ClassTable.of(['floor', 'crate']))[:2].tolist() == [2, 1]
    assert places_of(ClassTable.of(['floor']), floor)[:2].tolist() == [1, 1]


# --- A folder of images and labels ---------------------------------------------------------------

@pytest.fixture
def labels(tmp_path):
    """Return a folder of ten images, each with a label of one class on background."""
    for name in ('images', 'labels'):
        (tmp_path / name).mkdir()
    for number in range(10):
        label = np.full((40, 60), BACKGROUND, np.uint8)
        label[10:20, 10:20] = number % 3
        label[0] = IGNORE
        image = np.full((40, 60, 3), 20 * number, np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{number}.{"jpg" if number % 2 else "png"}'), image)
        cv2.imwrite(str(tmp_path / 'labels' / f'{number}.png'), label)
    return tmp_path


def test_a_folder_without_a_split_holds_a_tenth_out(labels):
    training, validation = label_folder(labels)
    assert len(training) == 9 and len(validation) == 1
    shades = sorted(
        int(dataset[index].image.mean()) // 19
        for dataset in (training, validation) for index in range(len(dataset)))
    assert shades == list(range(10))
    again, _ = label_folder(labels)
    assert all((training[index].image == again[index].image).all() for index in range(9))
    image, label = training[0]
    assert image.shape == (40, 60, 3) and label.shape == (40, 60) and label[0, 0] == IGNORE
    for classes, index in zip(training.classes, range(9)):
        assert classes == set(np.unique(training[index].label).tolist()) - {IGNORE}


def test_a_table_says_what_is_for_validation_and_under_which_licence(labels):
    rows = ''.join(
        f'{number}\t{"val" if number in (2, 5) else "train"}\tMine\tCC BY 4.0\n'
        for number in range(10))
    (labels / 'sources.tsv').write_text('file\tsplit\tdataset\tlicence\n' + rows)
    training, validation = label_folder(labels)
    assert len(training) == 8
    assert [int(validation[index].image[0, 0, 0]) for index in range(2)] == [40, 100]
    assert training.licences == ('Mine: CC BY 4.0',)
    (labels / 'sources.tsv').write_text('file\tsplit\n' + rows.replace('train', 'test'))
    with pytest.raises(DatasetError, match='neither train nor val'):
        label_folder(labels)


def samples(folder):
    return [dataset[index].label for dataset in label_folder(folder)
            for index in range(len(dataset))]


def test_a_palette_changes_nothing(labels):
    before = samples(labels)
    for path in (labels / 'labels').iterdir():
        save_mask(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), LVS, path)
        assert cv2.imread(str(path)).std() > 10, 'a palette of colours'
    assert all(np.array_equal(*both) for both in zip(samples(labels), before))


@pytest.mark.parametrize('spoil, words', [
    (lambda label: label + 3, 'ids of the classes, 0 to 8, or 255, got 11'),
    (lambda label: np.dstack([label] * 3), 'one 8-bit channel'),
    (lambda label: label.astype(np.uint16), 'one 8-bit channel')])
def test_what_is_no_label_is_refused(labels, spoil, words):
    path = str(labels / 'labels' / '7.png')
    cv2.imwrite(path, spoil(cv2.imread(path, cv2.IMREAD_UNCHANGED)))
    with pytest.raises(DatasetError, match=words):
        label_folder(labels)


def test_labels_hold_the_ids_of_the_classes_that_are_asked_for(labels):
    table = ClassTable.of(['crate', 'ball', 'bag', 'floor'], 3, {0: 2, 1: 1, 2: 0, 3: 8})
    training, validation = label_folder(labels, table)
    found = set().union(*training.classes, *validation.classes)
    assert found == {0, 1, 2, 3}
    image, label = training[0]
    # Of class 2, 1, 0, in the order of the names of the files.
    kind = round(int(image.mean()) / 20) % 3
    assert (label[10:20, 10:20] == 2 - kind).all() and (label[30:] == 3).all()
    assert (label[0] == IGNORE).all()
    with pytest.raises(DatasetError, match='ids of the classes, 0 to 2, or 255, got 8'):
        label_folder(labels, ClassTable.of(['crate', 'ball']))
    gap = ClassTable.of(['crate', 'ball'], ids={1: 7})
    with pytest.raises(DatasetError, match='ids of the classes, 0 to 7 with gaps'):
        label_folder(labels, gap)


def test_a_folder_may_say_its_own_table(labels):
    (labels / 'classes.yaml').write_text(
        '{background: floor, classes: [{name: Ball, id: 0}, {name: crate, id: 1}, '
        '{name: "vehicle: car, bus", id: 2}, {name: floor, id: 8}]}')
    wanted = ClassTable.of(['crate', 'ball', 'car'])
    training, validation = label_folder(labels, wanted)
    seen = {}
    for dataset in (training, validation):
        for index in range(len(dataset)):
            image, label = dataset[index]
            kind = round(int(image.mean()) / 20) % 3
            seen[kind] = set(np.unique(label[10:20, 10:20]).tolist())
            assert (label[30:] == 0).all() and (label[0] == IGNORE).all()
    # A vehicle may be a car, or not.
    assert seen == {0: {2}, 1: {1}, 2: {IGNORE}}
    with pytest.raises(DatasetError, match='shows none of the classes that are asked for: it has '
                       'Ball, crate, vehicle, asked for are pallet'):
        label_folder(labels, ClassTable.of(['pallet']))
    (labels / 'classes.yaml').write_text('[a, a]')
    with pytest.raises(ClassesError, match="classes.yaml.*'a' is there twice"):
        label_folder(labels, wanted)
    (labels / 'classes.yaml').write_text('[a, b]')
    with pytest.raises(DatasetError, match='no label: .*ids of classes.yaml, 0 to 2, or 255'):
        label_folder(labels, ClassTable.of(['b']))


def test_a_label_of_another_size_is_refused(labels):
    for number in range(10):
        cv2.imwrite(
            str(labels / 'labels' / f'{number}.png'), np.full((40, 50), BACKGROUND, np.uint8))
    training, _ = label_folder(labels)
    with pytest.raises(DatasetError, match='60×40, its label 50×40'):
        training[0]


def test_too_few_images_are_refused(labels):
    for path in list((labels / 'labels').iterdir())[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match='1 images'):
        label_folder(labels)


def test_something_is_always_held_out_but_never_all():
    assert hold_out(100, 0.1, 0).sum() == 10
    assert hold_out(3, 0.1, 0).sum() == 1
    assert hold_out(2, 0.9, 0).sum() == 1
    assert (hold_out(100, 0.1, 0) != hold_out(100, 0.1, 1)).any()


# --- COCO ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('counts', ['=33000`0N', [13, 3, 3, 3, 3, 3, 19, 1]])
def test_run_lengths_are_those_of_pycocotools(counts):
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = mask[5, 7] = True
    assert (decode_rle({'size': [6, 8], 'counts': counts}) == mask).all()


def test_compressed_runs_with_negative_differences():
    # Encoded by pycocotools 2.0.11 from `GaussianBlur(default_rng(0).random((20, 30)), 2) > 0.5`.
    counts = '8<8000On2KWM4M2N0001O00NM41000OW1MeN1J15NK31010N03NN23MM3;O1O00'
    mask = decode_rle({'size': [20, 30], 'counts': counts})
    assert mask.shape == (20, 30) and mask.sum() == 464
    expected = cv2.GaussianBlur(np.random.default_rng(0).random((20, 30)), (0, 0), 2) > 0.5
    assert (mask == expected).mean() > 0.99


def test_runs_that_do_not_fill_the_mask_are_refused():
    with pytest.raises(DatasetError, match='11 pixels'):
        decode_rle({'size': [3, 4], 'counts': [5, 6]})


def test_small_instances_lie_over_large_ones_and_crowds_are_ignored():
    annotations = [
        {'category_id': 1, 'segmentation': square(2, 2, 4, 4), 'area': 4, 'iscrowd': 0},
        {'category_id': 3, 'segmentation': square(0, 0, 6, 5), 'area': 30, 'iscrowd': 0},
        {'category_id': 99, 'segmentation': square(4, 0, 5, 1), 'area': 1, 'iscrowd': 0},
        {'category_id': 1, 'segmentation': {'size': [8, 10], 'counts': [32, 48]}, 'iscrowd': 1}]
    label = draw_instances(annotations, {1: 0, 3: 2}, 8, (8, 10))
    expected = np.full((8, 10), 8)
    expected[:, 4:] = IGNORE
    expected[:5, :6] = 2
    expected[2:4, 2:4] = 0
    expected[0, 4] = 8
    assert (label == expected).all()


def test_a_polygon_holds_the_pixels_whose_centres_are_inside():
    triangle = [[0.0, 0.0, 10.0, 0.0, 0.0, 10.0]]
    label = draw_instances([{'category_id': 1, 'segmentation': triangle}], {1: 0}, 8, (12, 12))
    y, x = np.mgrid[:12, :12] + 0.5
    assert (label == 0)[x + y < 9.7].all() and (label == 8)[x + y > 10.3].all()
    outside = [[-5.0, -5.0, 30.0, -5.0, 30.0, 3.0, -5.0, 3.0], [40, 40, 50, 40, 50, 50]]
    label = draw_instances([{'category_id': 1, 'segmentation': outside}], {1: 0}, 8, (12, 12))
    assert (label[:3] == 0).all() and (label[3:] == 8).all()


@pytest.fixture
def coco(tmp_path):
    """Return a folder of COCO with three images to train on, of which one has no instance."""
    (tmp_path / 'annotations').mkdir()
    categories = [{'id': number, 'name': name} for number, name in (
        (1, 'person'), (3, 'car'), (6, 'bus'), (17, 'cat'))]

    def write(split, images):
        (tmp_path / split).mkdir()
        annotations = []
        for image, boxes in images.items():
            cv2.imwrite(str(tmp_path / split / f'{image}.jpg'), np.zeros((40, 60, 3), np.uint8))
            annotations += [
                {'image_id': image, 'category_id': category, 'iscrowd': 0,
                 'segmentation': square(*box), 'area': (box[2] - box[0]) * (box[3] - box[1])}
                for category, box in boxes]
        (tmp_path / 'annotations' / f'instances_{split}.json').write_text(json.dumps({
            'images': [{'id': image, 'file_name': f'{image}.jpg'} for image in images],
            'categories': categories, 'annotations': annotations}))

    write('train2017', {
        1: [(1, (0, 0, 10, 10)), (6, (20, 0, 30, 10))], 2: [],
        3: [(17, (0, 0, 10, 10)), (3, (20, 0, 30, 10))]})
    return tmp_path, write


def test_coco_becomes_this_packages_classes(coco):
    folder, write = coco
    write('val2017', {7: [(1, (5, 5, 40, 30))]})
    training, validation = coco_folder(folder)
    assert len(training) == 2 and len(validation) == 1
    assert training.classes == [{PERSON, AUTO, BACKGROUND}, {AUTO, BACKGROUND}]
    first, second = training[0].label, training[1].label
    assert (first[:10, :10] == PERSON).all() and (first[:10, 20:30] == AUTO).all()
    assert (second[:10, :10] == BACKGROUND).all() and (second[:10, 20:30] == AUTO).all()
    assert (validation[0].label == PERSON).sum() == 35 * 25 and not training.remark
    assert 'CC BY' in training.licences[0]


def test_coco_becomes_the_classes_that_are_asked_for(coco):
    folder, write = coco
    write('val2017', {7: [(17, (5, 5, 40, 30))]})
    training, validation = coco_folder(folder, COCO)
    assert training.classes == [
        {0, COCO.find('person'), COCO.find('bus')}, {0, COCO.find('cat'), COCO.find('car')}]
    label = training[1].label
    assert int(label[5, 5]) == COCO.find('cat') and int(label[5, 25]) == COCO.find('car')
    assert int(label[30, 30]) == 0 and set(np.unique(label).tolist()) == training.classes[1]
    assert (validation[0].label == COCO.find('cat')).sum() == 35 * 25
    table = ClassTable.of(['animal: dog, CAT', 'Bus'])
    training, _ = coco_folder(folder, table)
    assert training.classes == [{0, 2}, {0, 1}]
    assert int(training[0].label[5, 5]) == 0, 'nobody asked for people'


def test_coco_without_what_is_asked_for_is_refused(coco, shared):
    folder, _ = coco
    with pytest.raises(DatasetError, match='shows none of the classes that are asked for: it has '
                       'person, bus, cat, car, asked for are pallet, forklift'):
        coco_folder(folder, ClassTable.of(['pallet', 'forklift']))
    many = ClassTable.of([f'n{number}' for number in range(20)])
    with pytest.raises(DatasetError, match='asked for are n0, n1, .*, n9 and 10 more'):
        coco_folder(folder, many)
    folder = shared('cases/coco/unknown_names')
    with pytest.raises(DatasetError, match='unknown_names.*it has helmet'):
        coco_folder(folder)
    training, _ = coco_folder(folder, ClassTable.of(['Helmet']))
    assert (training[0].label == 1).sum() == 800


def test_coco_whose_names_alone_are_known_is_refused(coco):
    # The list of categories has 'car', but no picture to train on does.
    folder, write = coco
    for path in (folder / 'annotations').iterdir():
        path.unlink()
    write('train', {1: [(1, (0, 0, 10, 10))]})
    write('val', {2: [(3, (0, 0, 10, 10))]})
    with pytest.raises(DatasetError, match='shows none'):
        coco_folder(folder, ClassTable.of(['car']))


def test_a_coco_file_that_is_none_is_refused(coco):
    folder, _ = coco
    path = folder / 'annotations' / 'instances_train2017.json'
    path.write_text('{"images": []}')
    with pytest.raises(DatasetError, match='no instances file'):
        coco_folder(folder)
    path.unlink()
    with pytest.raises(DatasetError, match='0 images'):
        coco_folder(folder)


@pytest.mark.parametrize('case', [
    'no_segmentation_key', 'null_segmentation', 'no_category', 'rle_null_counts',
    'polygon_strings', 'one_point', 'flat_polygon'])
def test_coco_that_cannot_be_trained_on_names_file_and_annotation(shared, case):
    folder = shared(f'cases/coco/{case}')
    path = folder / 'annotations' / 'instances_train.json'
    with pytest.raises(DatasetError, match=f"'{path}': annotation 0 has [^\\n]*$"):
        coco_folder(folder)


def test_objects_of_no_area_are_drawn_by_their_boxes_size(shared):
    for dataset in coco_folder(shared('cases/coco/area_null')):
        for index in range(len(dataset)):
            label = dataset[index].label
            assert (label == PERSON).sum() == 800 and not (label == IGNORE).any()
    annotations = [
        {'category_id': 1, 'segmentation': square(2, 2, 4, 4), 'area': None, 'bbox': [2, 2, 2, 2]},
        {'category_id': 3, 'segmentation': square(0, 0, 6, 5), 'area': 30},
        {'category_id': 1, 'segmentation': square(7, 7, 8, 8)}]
    label = draw_instances(annotations, {1: 0, 3: 2}, 8, (8, 10))
    assert (label == 0).sum() == 5 and (label == 2).sum() == 26


def change(folder, number, **values):
    """Change an annotation of the split to train on; None takes a value away."""
    path = folder / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    annotation = content['annotations'][number]
    annotation |= values
    for name, value in values.items():
        if value is None:
            del annotation[name]
    path.write_text(json.dumps(content))
    return path


BAD_OUTLINES = [
    None, [], [[]], {}, 'text', 5, [[1, 2, 3, 4]], [[0, 0, 9, 0, 9, 9, 0]], [0, 0, 9, 0, 9, 9],
    [['0', '0', '9', '0', '9', '9']], [[0, 0, 9, 0, 9, None]], [[0, 0, 9, 0, 9, float('nan')]],
    [[0, 0, 9, 0, 9, 1e30]], [[0, 0, 9, 0, 9, 10 ** 30]], [[[0, 0], [9, 0], [9, 9]]],
    [[0, 0, 9, 0, 9, 9], [1]], {'size': [40, 60]}, {'size': [40, 60], 'counts': None},
    {'size': [40, 60], 'counts': [1, 2]}, {'size': [40], 'counts': [40]},
    {'size': None, 'counts': [1]}, {'size': [40, 60], 'counts': [2401, -1]},
    {'size': [40, 60], 'counts': ['2400']}, {'size': [40, 60], 'counts': '~~~'},
    {'size': [0, 60], 'counts': []}]


@pytest.mark.parametrize('outline', BAD_OUTLINES)
def test_the_box_of_an_object_without_an_outline_is_ignored(coco, outline):
    folder, write = coco
    write('val2017', {7: [(1, (5, 5, 40, 30))]})
    path = change(folder, 1, segmentation=outline, id=77, bbox=[20.5, 0, 9, 10])
    training, _ = coco_folder(folder)
    label = training[0].label
    assert (label[:10, :10] == PERSON).all() and (label[:10, 20:30] == IGNORE).all()
    assert training.remark == (
        'objects without an outline that can be read: 1, the first of them annotation 77 of '
        f"'{path}'; their boxes are ignored")
    assert (label == IGNORE).sum() == 100 and training.classes[0] == {PERSON, BACKGROUND}
    for box in (None, [1, 2, 3], ['a'] * 4, [1, 2, -3, 4], 'abcd', {}):
        change(folder, 1, bbox=[1])
        change(folder, 1, bbox=box)
        with pytest.raises(DatasetError, match=f"'{path}': annotation 77 has no outl[^\\n]*$"):
            coco_folder(folder)


@pytest.mark.parametrize('values, said', [
    ({'category_id': 2}, 'annotation 5 has category_id 2, which is not among the 4 categories'),
    ({'category_id': None}, 'annotation 5 has category_id None'),
    ({'image_id': 99}, 'annotation 5 is of image 99, which is not among its images')])
def test_an_object_of_nothing_is_named(coco, values, said):
    folder, _ = coco
    path = change(folder, 3, id=5)
    change(folder, 3, **values)
    with pytest.raises(DatasetError, match=f"'{path}': {said}"):
        coco_folder(folder)


def test_an_object_that_is_none_is_one_clear_error(coco):
    folder, _ = coco
    path = folder / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    for wrong in (None, 5, 'text', [], {'image_id': []}):
        path.write_text(json.dumps(content | {'annotations': [wrong]}))
        with pytest.raises(DatasetError, match=f"'{path}'"):
            coco_folder(folder)


def test_runs_of_another_image_are_named(coco):
    folder, write = coco
    write('val2017', {7: [(1, (5, 5, 40, 30))]})
    change(folder, 1, segmentation={'size': [60, 40], 'counts': [2000, 400]})
    training, _ = coco_folder(folder)
    with pytest.raises(DatasetError, match="1.jpg': a mask is 40×60, its image 60×40"):
        training[0]


# --- The scene -----------------------------------------------------------------------------------

def test_scenes_are_rendered_with_their_labels():
    dataset = scene_dataset(['day', 'night'], range(3, 5), 2, (64, 48))
    assert len(dataset) == 8
    image, label = dataset[7]
    assert image.shape == (48, 64, 3) and label.shape == (48, 64) and label.max() <= BACKGROUND
    assert (dataset[7].image == image).all() and (dataset[0].image != image).any()


def test_scenes_have_the_classes_that_are_asked_for():
    theirs = scene_dataset(['day'], range(3, 4), 6, (192, 128))
    table = ClassTable.of(['animal: dog, bird, horse', 'person', 'auto'])
    ours = scene_dataset(['day'], range(3, 4), 6, (192, 128), classes=table)
    rows = table.rows(LVS.names)
    seen = set()
    for index in range(6):
        assert (ours[index].label == rows[theirs[index].label]).all()
        seen |= set(np.unique(ours[index].label).tolist())
    assert len(seen) > 2
    with pytest.raises(DatasetError, match="'scene' shows none .*it has person, .*, asked"
                       ' for are pallet'):
        scene_dataset(['day'], range(3, 4), 6, (192, 128), classes=ClassTable.of(['pallet']))
