"""Models of transformers that take phrases, loaded from tiny checkpoints."""

from types import SimpleNamespace

import numpy as np
from PIL import Image
import pytest
import torch
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers import hf_clipseg, load_teacher, TeacherError
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint
from shadowtutor_ros.models.teachers.hf_detected import DetectedTeacher

FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
IMAGE = Image.fromarray(FRAME[:, :, ::-1])
CLASSES = ClassTable.of(['Dogs', 'vehicle: traffic light, a cat'])  # 0 is the background
DETECTORS, SAMS = ('grounding_dino', 'owlv2'), ('sam', 'sam2', 'sam2_video')


def refusal(*args):
    with pytest.raises(TeacherError) as caught:
        load_teacher(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def pair(checkpoint, detector, segmenter, device='cpu', score_threshold=None):
    return load_teacher(f'hf:{checkpoint(detector)}+{checkpoint(segmenter)}', 'DEFAULT', device,
                        score_threshold)


@pytest.mark.parametrize('segmenter', SAMS)
@pytest.mark.parametrize('detector', DETECTORS)
def test_pairs(checkpoint, device, detector, segmenter):
    teacher = pair(checkpoint, detector, segmenter, device, 0.01)
    assert teacher.vocabulary is None
    prediction = teacher(FRAME, CLASSES)
    assert prediction.label.shape == (48, 64) and prediction.label.dtype == np.uint8
    assert len(prediction.boxes) > 0 and set(np.unique(prediction.label)) <= {0, 1, 2}
    assert (prediction.boxes >= 0).all() and (prediction.boxes <= (64, 48, 64, 48)).all()
    assert (np.diff(prediction.scores) <= 0).all() and prediction.scores.min() > 0.01
    nothing = pair(checkpoint, detector, segmenter, device, 1.0)(FRAME, CLASSES)
    assert not nothing.label.any() and nothing.boxes.shape == (0, 4)


class FakeGroundingDino(torch.nn.Module):
    """Says of each box which tokens it is of."""

    def __init__(self, *found):
        super().__init__()
        self.config, self.texts, self.found = SimpleNamespace(max_text_len=256), [], found

    def forward(self, input_ids, pixel_values, **others):
        self.texts.append(input_ids[0].tolist())
        logits = torch.full((1, len(self.found), 256), -torch.inf)
        logits[..., :input_ids.shape[1]] = -5
        boxes = torch.zeros(1, len(self.found), 4)
        for row, (tokens, box) in enumerate(self.found):
            boxes[0, row] = torch.tensor(box)
            for token, probability in tokens.items():
                logits[0, row, :input_ids.shape[1]][input_ids[0] == token] = torch.logit(
                    torch.tensor(probability))
        return SimpleNamespace(logits=logits, pred_boxes=boxes)


# Numbers of hf_files.BERT_WORDS.
DOG, TRAFFIC, LIGHT, CAT, DOT, CLS, SEP = 1030, 1033, 1034, 1035, 1012, 101, 102


def with_fake(monkeypatch, checkpoint, *found, length=256):
    teacher = pair(checkpoint, 'grounding_dino', 'sam2')
    fake = FakeGroundingDino(*found)
    monkeypatch.setattr(teacher._detect, '_model', fake)
    monkeypatch.setattr(teacher._detect, '_length', length)
    monkeypatch.setattr(teacher, '_masks', lambda image, boxes: np.array([
        [[x1 <= x < x2 and y1 <= y < y2 for x in range(64)] for y in range(48)]
        for x1, y1, x2, y2 in boxes]).reshape(-1, 48, 64))
    return teacher, fake


FOUND = (({DOG: 0.8}, (0.25, 0.5, 0.5, 1)),                    # the left half
         ({TRAFFIC: 0.35, LIGHT: 0.6}, (0.75, 0.25, 0.5, 0.5)),
         ({CAT: 0.5}, (0.75, 0.75, 0.5, 0.5)),
         ({CAT: 0.45}, (0.75, 0.74, 0.5, 0.5)),                # the same cat again
         ({DOG: 0.29}, (0.5, 0.5, 1, 1)),
         ({DOT: 0.9, CLS: 0.9, SEP: 0.9}, (0.5, 0.5, 1, 1)))   # of no phrase


def test_phrases_of_grounding_dino(monkeypatch, checkpoint):
    teacher, fake = with_fake(monkeypatch, checkpoint, *FOUND)
    prediction = teacher(FRAME, CLASSES)
    assert fake.texts == [[CLS, DOG, 1036, DOT, TRAFFIC, LIGHT, DOT, 1032, CAT, DOT, SEP]]
    assert prediction.scores == pytest.approx([0.8, 0.6, 0.5])
    np.testing.assert_allclose(
        prediction.boxes, [[0, 0, 32, 48], [32, 0, 64, 24], [32, 24, 64, 48]])
    assert (prediction.label[:, :32] == 1).all() and (prediction.label[:, 32:] == 2).all()


def test_more_phrases_than_a_text_holds(monkeypatch, checkpoint):
    teacher, fake = with_fake(monkeypatch, checkpoint, *FOUND, length=8)
    prediction = teacher(FRAME, CLASSES)
    assert fake.texts == [[CLS, DOG, 1036, DOT, TRAFFIC, LIGHT, DOT, SEP],
                          [CLS, 1032, CAT, DOT, SEP]]
    assert prediction.scores == pytest.approx([0.8, 0.6, 0.5])
    assert (prediction.label[:, :32] == 1).all() and (prediction.label[:, 32:] == 2).all()


def test_phrases_with_signs_of_their_own(monkeypatch, checkpoint):
    teacher, fake = with_fake(monkeypatch, checkpoint, ({CAT: 0.9}, (0.5, 0.5, 1, 1)))
    label = teacher(FRAME, ClassTable.of(['a dog?', '...', 'St. CAT'])).label
    assert fake.texts == [[CLS, 1032, DOG, DOT, DOT, 100, CAT, DOT, SEP]]
    assert (label == 3).all()


def test_phrases_of_owl(checkpoint):
    teacher = pair(checkpoint, 'owlv2', 'sam', score_threshold=0.1)
    detect = teacher._detect
    phrases = [phrase for phrase, _ in CLASSES.phrases]
    with torch.no_grad():
        boxes, scores, which = detect(IMAGE, phrases, 0.1)
        inputs = detect._processor(text=[phrases], images=IMAGE, return_tensors='pt')
        output = detect._model(**inputs)
    surest, expected = output.logits[0].sigmoid().max(1)
    keep = surest > 0.1
    assert 1 < keep.sum() and len(set(which)) > 1
    np.testing.assert_array_equal(which, expected[keep])
    np.testing.assert_allclose(scores, surest[keep], rtol=1e-5)
    # It sees a square, 64×64, that the frame is padded to.
    centre, size = output.pred_boxes[0][keep].reshape(-1, 2, 2).unbind(1)
    np.testing.assert_allclose(
        boxes, 64 * torch.cat([centre - size / 2, centre + size / 2], 1), atol=1e-4)
    # A phrase of more than its 16 tokens is cut.
    detect(IMAGE, ['a fairly long phrase that nobody would write'], 0.1)


@pytest.mark.parametrize('segmenter', SAMS)
def test_masks_of_sam(transformers, checkpoint, segmenter):
    teacher = pair(checkpoint, 'owlv2', segmenter)
    boxes = np.array([[5, 6, 40, 30], [0, 0, 64, 48]], np.float32)
    with torch.no_grad():
        masks = teacher._masks(IMAGE, boxes)
    assert masks.shape == (2, 48, 64) and masks.dtype == bool and masks.any()
    # What transformers' own documentation does with a box.
    kind = segmenter.partition('_')[0].capitalize()
    processor = getattr(transformers, f'{kind}Processor').from_pretrained(checkpoint(segmenter))
    model = getattr(transformers, f'{kind}Model').from_pretrained(checkpoint(segmenter)).eval()
    inputs = processor(images=IMAGE, input_boxes=[boxes.tolist()], return_tensors='pt')
    with torch.no_grad():
        output = model(**inputs, multimask_output=False)
    sizes = [inputs[key] for key in ('original_sizes', *(
        ['reshaped_input_sizes'] if segmenter == 'sam' else []))]
    expected = processor.post_process_masks(output.pred_masks, *sizes)[0][:, 0]
    np.testing.assert_array_equal(masks, expected)


def test_mask_threshold(transformers, checkpoint):
    models = [Checkpoint(checkpoint(name)) for name in ('owlv2', 'sam')]
    boxes = np.array([[5, 6, 40, 30]], np.float32)
    with torch.no_grad():
        areas = [DetectedTeacher(*models, mask_threshold=threshold)._masks(IMAGE, boxes).sum()
                 for threshold in (0.1, 0.5, 0.9)]
    assert areas[0] >= areas[1] >= areas[2] and areas[0] > areas[2]


def test_a_mask_threshold_reaches_who_has_masks(checkpoint):
    names = [checkpoint(name) for name in ('owlv2', 'sam')]
    teacher = load_teacher(f'hf:{names[0]}+{names[1]}', mask_threshold=0.9)
    assert teacher._mask_logit == pytest.approx(np.log(9))
    with pytest.raises(TeacherError, match='takes no mask_threshold, but got 0.9'):
        load_teacher(f"hf:{checkpoint('clipseg')}", mask_threshold=0.9)


def test_thresholds_of_their_own(checkpoint):
    assert pair(checkpoint, 'grounding_dino', 'sam2')._score_threshold == 0.3
    assert pair(checkpoint, 'owlv2', 'sam2')._score_threshold == 0.2
    assert pair(checkpoint, 'owlv2', 'sam2', score_threshold=0.0)._score_threshold == 0


def test_clipseg(transformers, checkpoint, device, monkeypatch):
    folder = checkpoint('clipseg')
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    phrases = [phrase for phrase, _ in CLASSES.phrases]
    with torch.no_grad():
        logits = model(**processor(
            text=phrases, images=[IMAGE] * 3, padding=True, return_tensors='pt')).logits
    probable = F.interpolate(logits.sigmoid()[None], (48, 64), mode='bilinear')[0].numpy()
    threshold = float(np.quantile(probable.max(0), 0.4))
    expected = np.where(
        probable.max(0) > threshold, np.array([1, 2, 2])[probable.argmax(0)], 0)
    assert len(np.unique(expected)) == 3
    for batch in (8, 2, 1):
        monkeypatch.setattr(hf_clipseg, '_BATCH', batch)
        teacher = load_teacher(f'hf:{folder}', 'DEFAULT', device, threshold)
        assert teacher.vocabulary is None
        prediction = teacher(FRAME, CLASSES)
        # Padding differs with the phrases of a batch, and so do the last bits.
        assert np.mean(prediction.label != expected) < 0.01
        assert prediction.scores is None and prediction.boxes.shape[1:] == (4,)


def test_sam3(transformers, checkpoint, device):
    folder = checkpoint('sam3')
    processor = transformers.Sam3Processor.from_pretrained(folder)
    model = transformers.Sam3Model.from_pretrained(folder).eval()
    found = []
    for phrase, place in CLASSES.phrases:
        with torch.no_grad():
            output = model(**processor(images=IMAGE, text=phrase, return_tensors='pt'))
        instances, = processor.post_process_instance_segmentation(
            output, threshold=0, target_sizes=[(48, 64)])
        found += [(score.item(), place, mask.numpy().astype(bool)) for score, mask in zip(
            instances['scores'], instances['masks'])]
    found.sort(key=lambda one: one[0])
    # Those below are left out, all of a phrase too, and others not.
    threshold = found[2 * len(found) // 3][0]
    expected = np.zeros((48, 64), np.uint8)
    for score, place, mask in found:
        if score > threshold:
            expected[mask] = place
    teacher = load_teacher(f'hf:{folder}', 'DEFAULT', device, threshold)
    assert teacher.vocabulary is None and expected.any()
    prediction = teacher(FRAME, CLASSES)
    assert np.mean(prediction.label != expected) < 0.02
    assert len(prediction.boxes) == len(prediction.scores) == sum(
        score > threshold for score, _, _ in found)
    nothing = load_teacher(f'hf:{folder}', 'DEFAULT', device, 1.0)(FRAME, CLASSES)
    assert not nothing.label.any() and nothing.boxes.shape == (0, 4)


def test_one_of_a_pair(checkpoint):
    message = refusal(f"hf:{checkpoint('grounding_dino')}")
    assert 'finds boxes without masks' in message and '+facebook/sam2.1-hiera-tiny' in message
    message = refusal(f"hf:{checkpoint('sam2')}")
    assert 'takes no words' in message and 'hf:IDEA-Research/grounding-dino-tiny+' in message


def test_pairs_that_are_none(checkpoint):
    message = refusal(f"hf:{checkpoint('segformer')}+{checkpoint('sam')}")
    assert "is of the kind 'segformer', wanted a zero-shot detector (grounding-dino," in message
    message = refusal(f"hf:{checkpoint('owlv2')}+{checkpoint('owlv2')}")
    assert "is of the kind 'owlv2', wanted a SAM (sam, sam2" in message
    assert 'is not a folder' in refusal(f"hf:{checkpoint('owlv2')}+./missing")


def test_what_is_no_frame(checkpoint):
    teachers = [pair(checkpoint, 'owlv2', 'sam'), load_teacher(f"hf:{checkpoint('sam3')}")]
    for teacher in teachers:
        for frame in (None, FRAME[..., 0], FRAME.astype(float), FRAME[:0]):
            with pytest.raises(ValueError, match='wanted'):
                teacher(frame, CLASSES)
