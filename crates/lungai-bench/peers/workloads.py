"""What each peer does in each workload. `prepare` loads the input and returns (version, function without arguments).

A function returns a dict of numpy arrays and numbers under the names that our side uses.
"""

from importlib.metadata import version as installed

import numpy as np

SIZE, SPACING = (300, 512, 512), (1.25, 0.7, 0.7)
SHIFT = 0.05
PART, PATCH = (128, 256, 256), (128, 128, 128)


def raw(folder, name, dtype, size):
    return np.fromfile(folder / "data" / name, dtype=dtype).reshape(size)


def seen(name, image):
    """A SimpleITK image as an array without a copy."""
    import SimpleITK as sitk

    return {name: sitk.GetArrayViewFromImage(image), "_image": image}


def prepare(workload, peer, folder, threads):
    kind, _, detail = workload.partition("-")
    return globals()[kind](detail, peer, folder, threads)


# Resampling to 1 mm: the grid whose outer voxel edges stay where they are.


def grids():
    size = [int(np.floor(n * s + 0.5)) for n, s in zip(SIZE, SPACING)]
    first = [0.5 * (1.0 - s) for s in SPACING]  # mm from the first voxel centre
    return size, first


def resample(detail, peer, folder, threads):
    hu = raw(folder, "chest.raw", np.int16, SIZE)
    size, first = grids()
    if detail == "nearest":
        first = [f + SHIFT for f in first]  # no voxel centre halfway between two others
    order = {"linear": 1, "cubic": 3, "nearest": 0, "antialias": 1}[detail]
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(hu)
        image.SetSpacing(SPACING[::-1])
        interpolator = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline3}[order]

        def work():
            moved = image
            if detail == "antialias":
                moved = sitk.SmoothingRecursiveGaussian(image, [0.5 * max(1.0 - s, 0.0) + 1e-3 for s in SPACING[::-1]])
            # To integers it cuts the fraction off: within 1 HU of rounding.
            return seen("hu", sitk.Resample(moved, size[::-1], sitk.Transform(), interpolator, first[::-1], (1, 1, 1), image.GetDirection(), -1024, sitk.sitkInt16))

        return installed("SimpleITK"), work
    if peer == "scipy":
        from scipy import ndimage

        def work():
            # Beyond the outer voxel centres (half a voxel) the nearest voxel is repeated, as we do; splines mirror.
            mode = "mirror" if order == 3 else "nearest"
            matrix = [1.0 / s for s in SPACING]
            offset = [f / s for f, s in zip(first, SPACING)]
            return {"hu": ndimage.affine_transform(hu, matrix, offset, size, output=np.int16, order=order, mode=mode)}

        return installed("scipy"), work
    if peer == "scikit-image":
        from skimage.transform import resize

        def work():
            out = resize(hu.astype(np.float32), size, order=1, mode="edge", anti_aliasing=True, preserve_range=True)
            return {"hu": np.floor(out + np.float32(0.5)).astype(np.int16)}

        return installed("scikit-image"), work
    if peer == "torch":
        import torch

        torch.set_num_threads(threads)
        mode = {"linear": "trilinear", "nearest": "nearest-exact"}[detail]

        def work():
            # Whole target voxels per extent: within a thousandth of the grid of the others.
            source = torch.from_numpy(hu)[None, None].float()
            scale = None if mode == "nearest-exact" else False
            out = torch.nn.functional.interpolate(source, scale_factor=SPACING, mode=mode, align_corners=scale, recompute_scale_factor=False)
            out = torch.nn.functional.pad(out, [0, size[2] - out.shape[4], 0, size[1] - out.shape[3], 0, size[0] - out.shape[2]], mode="replicate") if out.shape[2:] != tuple(size) else out
            return {"hu": torch.floor(out + 0.5).clamp(-32768, 32767).to(torch.int16)[0, 0].numpy()}

        return installed("torch"), work
    import torch
    from monai.transforms import SpatialResample

    torch.set_num_threads(threads)
    from monai.data import MetaTensor

    image = MetaTensor(torch.from_numpy(hu.astype(np.float32))[None], affine=torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64)))
    target = torch.eye(4, dtype=torch.float64)
    target[:3, 3] = torch.tensor(first)
    transform = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True)

    def work():
        out = transform(image, dst_affine=target, spatial_size=size)
        return {"hu": np.floor(out[0].numpy() + np.float32(0.5)).clip(-32768, 32767).astype(np.int16)}

    return installed("monai"), work


# Labelling.


def label(detail, peer, folder, threads):
    air = raw(folder, "air.raw", np.uint8, SIZE)
    connectivity = int(detail)
    if peer == "cc3d":
        import cc3d

        def work():
            labels, count = cc3d.connected_components(air, connectivity=connectivity, return_N=True, binary_image=True)
            cc3d.statistics(labels)
            return {"labels": labels, "components": count}

        return installed("connected-components-3d"), work
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(air)

        def work():
            labels = sitk.ConnectedComponent(image, connectivity == 26)
            shape = sitk.LabelShapeStatisticsImageFilter()
            shape.ComputePerimeterOff()
            shape.Execute(labels)
            return {**seen("labels", labels), "components": shape.GetNumberOfLabels()}

        return installed("SimpleITK"), work
    from scipy import ndimage

    def work():
        labels, count = ndimage.label(air, ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3))
        np.bincount(labels.ravel())
        ndimage.find_objects(labels)
        return {"labels": labels, "components": count}

    return installed("scipy"), work


# Morphology. What lies beyond the border is unknown to us: neither grown from nor eroded by.


def part(folder):
    return raw(folder, "part.raw", np.int16, PART) < -410


def ball(radius):
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return z * z + y * y + x * x <= radius * radius


def dilate(detail, peer, folder, threads):
    mask = part(folder)
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        return installed("SimpleITK"), lambda: seen("mask", sitk.BinaryDilate(image, [2, 2, 2], sitk.sitkBox))
    from scipy import ndimage

    return installed("scipy"), lambda: {"mask": ndimage.binary_dilation(mask, np.ones((5, 5, 5), bool))}


def close(detail, peer, folder, threads):
    radius = int(detail.removeprefix("ball-"))
    mask = part(folder)
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        def work():
            squared = radius * radius + 1e-4
            # ITK's own ball differs from the lattice ball, so its fastest exact way is taken: by distance maps.
            grown = sitk.SignedMaurerDistanceMap(image, False, True, False)
            dilated = grown <= squared
            inner = sitk.SignedMaurerDistanceMap(dilated == 0, False, True, False)
            return seen("mask", inner > squared)

        return installed("SimpleITK"), work
    from scipy import ndimage

    if peer == "scipy-distance":

        def work():
            near = ndimage.distance_transform_edt(~mask) <= radius + 1e-6
            return {"mask": ndimage.distance_transform_edt(near) > radius + 1e-6}

        return installed("scipy"), work

    def work():
        element = ball(radius)
        grown = ndimage.binary_dilation(mask, element)
        return {"mask": ndimage.binary_erosion(grown, element, border_value=1)}

    return installed("scipy"), work


def fill(detail, peer, folder, threads):
    tissue = raw(folder, "air.raw", np.uint8, SIZE) == 0
    if peer == "fill_voids":
        import fill_voids

        return installed("fill_voids"), lambda: {"mask": fill_voids.fill(tissue, in_place=False)}
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(tissue.astype(np.uint8))
        return installed("SimpleITK"), lambda: seen("mask", sitk.BinaryFillhole(image, False))
    from scipy import ndimage

    def work():
        # `binary_fill_holes` takes minutes; the same by labelling.
        labels, _ = ndimage.label(~tissue)
        faces = [labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
        outside = np.unique(np.concatenate([face.ravel() for face in faces]))
        keep = np.zeros(labels.max() + 1, bool)
        keep[outside] = True
        keep[0] = False
        return {"mask": ~keep[labels]}

    return installed("scipy"), work


def distance(detail, peer, folder, threads):
    air = raw(folder, "air.raw", np.uint8, SIZE)
    if peer == "edt":
        import edt

        tissue = air == 0
        return installed("edt"), lambda: {"mm": edt.edt(tissue, anisotropy=SPACING, black_border=False, parallel=threads)}
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(air)
        image.SetSpacing(SPACING[::-1])

        def work():
            out = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
            return seen("mm", sitk.Clamp(out, lowerBound=0.0))

        return installed("SimpleITK"), work
    from scipy import ndimage

    tissue = air == 0
    return installed("scipy"), lambda: {"mm": ndimage.distance_transform_edt(tissue, sampling=SPACING).astype(np.float32)}


# Filters.


def gaussian(detail, peer, folder, threads):
    hu = raw(folder, "chest.raw", np.int16, SIZE)
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(hu)
        return installed("SimpleITK"), lambda: seen("hu", sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), 2.0))
    from scipy import ndimage

    return installed("scipy"), lambda: {"hu": ndimage.gaussian_filter(hu, 2.0, output=np.float32, mode="nearest")}


def normalise(detail, peer, folder, threads):
    hu = raw(folder, "chest.raw", np.int16, SIZE)
    return installed("numpy"), lambda: {"value": (np.clip(hu, -1000, 400).astype(np.float32) + np.float32(1000)) * np.float32(2 / 1400) - np.float32(1)}


# The lung region by thresholds, as tutorials do it: body, air inside of it, the two largest parts, closing.


def lungs(detail, peer, folder, threads):
    hu = raw(folder, "chest.raw", np.int16, SIZE)
    if peer == "SimpleITK":
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(hu)
        image.SetSpacing(SPACING[::-1])

        def work():
            air = image < -410
            # Padding in the slice joins the room's air round the patient; it is the largest part of all that touches it.
            padded = sitk.ConstantPad(air, [1, 1, 0], [1, 1, 0], 1)
            labels = sitk.ConnectedComponent(padded)
            outside = labels[0, 0, 0]
            inside = sitk.Crop((labels != 0) * (labels != outside), [1, 1, 0], [1, 1, 0])
            parts = sitk.RelabelComponent(sitk.ConnectedComponent(inside))
            lungs = (parts == 1) + (parts == 2)
            closed = sitk.BinaryMorphologicalClosing(lungs > 0, [11, 11, 6], sitk.sitkBall)
            return seen("mask", closed)

        return installed("SimpleITK"), work
    from scipy import ndimage

    def work():
        labels, count = ndimage.label(np.pad(hu < -410, ((0, 0), (1, 1), (1, 1)), constant_values=True))
        sizes = np.bincount(labels.ravel())
        sizes[[0, labels[0, 0, 0]]] = 0
        kept = np.isin(labels, np.argsort(sizes)[-2:])[:, 1:-1, 1:-1]
        # A ball of 8 mm as distance, since a structuring element of that size takes minutes.
        near = ndimage.distance_transform_edt(~kept, sampling=SPACING) <= 8.0
        return {"mask": ndimage.distance_transform_edt(near, sampling=SPACING) > 8.0}

    return installed("scipy"), work


# Metrics.


def overlap(detail, peer, folder, threads):
    reference, other = (raw(folder, f"{name}.raw", np.uint8, SIZE) for name in ("lungs", "lungs_again"))
    sides = [("right", 1), ("left", 2)]
    if peer == "MONAI":
        import torch
        from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

        torch.set_num_threads(threads)

        def work():
            out = {}
            for name, label in sides:
                a, b = (torch.from_numpy(v == label)[None, None] for v in (reference, other))
                out[f"{name} dice"] = float(compute_dice(b.float(), a.float(), include_background=True))
                out[f"{name} hd95"] = float(compute_hausdorff_distance(b, a, include_background=True, percentile=95, spacing=SPACING))
                out[f"{name} surface dice"] = float(compute_surface_dice(b, a, class_thresholds=[1.0], include_background=True, spacing=SPACING))
            return out

        return installed("monai"), work
    import SimpleITK as sitk

    def work():
        out = {}
        for name, label in sides:
            a, b = (sitk.GetImageFromArray((v == label).astype(np.uint8)) for v in (reference, other))
            for image in (a, b):
                image.SetSpacing(SPACING[::-1])
            measures = sitk.LabelOverlapMeasuresImageFilter()
            measures.Execute(a, b)
            out[f"{name} dice"] = measures.GetDiceCoefficient()
            # It has no percentile and no surface Dice; the recipe of its documentation: distances on the contours.
            surface_a, surface_b = sitk.LabelContour(a), sitk.LabelContour(b)
            to = [sitk.GetArrayFromImage(sitk.Abs(sitk.SignedMaurerDistanceMap(s, squaredDistance=False, useImageSpacing=True))) for s in (surface_a, surface_b)]
            on = [sitk.GetArrayFromImage(s) > 0 for s in (surface_a, surface_b)]
            pair = to[1][on[0]], to[0][on[1]]
            out[f"{name} hd95 SimpleITK"] = max(np.percentile(d, 95) for d in pair)
            out[f"{name} surface dice SimpleITK"] = sum((d <= 1.0).sum() for d in pair) / sum(d.size for d in pair)
        return out

    return installed("SimpleITK"), work


def shape(detail, peer, folder, threads):
    import logging

    import radiomics.shape
    import SimpleITK as sitk

    logging.disable(logging.CRITICAL)
    masks = raw(folder, "nodules.raw", np.uint8, (1000, 64, 64, 64))
    images = [(sitk.GetImageFromArray(m.astype(np.float32)), sitk.GetImageFromArray(m)) for m in masks]

    def work():
        sums = np.zeros(3)
        for image, mask in images:
            found = radiomics.shape.RadiomicsShape(image, mask)
            sums += (found.getMeshVolumeFeatureValue(), found.getSurfaceAreaFeatureValue(), found.getSphericityFeatureValue())
        return dict(zip(("volume", "area", "sphericity"), sums / len(images)))

    return radiomics.__version__, work


# Augmentation of a patch and its mask; boxes are carried by none of the peers.


def augment(detail, peer, folder, threads):
    patch = raw(folder, "patch.raw", np.float32, PATCH)
    mask = raw(folder, "patch_mask.raw", np.uint8, PATCH)
    angle, magnification = np.deg2rad(20.0), 1.1
    fixed = detail == "affine"
    if peer == "scipy":
        from scipy import ndimage

        c, s = np.cos(angle), np.sin(angle)
        back = np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) / magnification  # z, y, x of the output to the input
        centre = (np.array(PATCH) - 1) / 2

        def work():
            offset = centre - back @ centre
            image = ndimage.affine_transform(patch, back, offset, order=1, mode="grid-constant")
            labels = ndimage.affine_transform(mask, back, offset, order=0)
            return {"hu": image, "voxels": image.size + labels.size}

        return installed("scipy"), work

    import torch

    torch.set_num_threads(threads)
    image, labels = torch.from_numpy(patch)[None], torch.from_numpy(mask)[None]

    def result(image, labels):
        out = {"voxels": image.numel() + labels.numel()}
        if fixed:
            out["hu"] = image[0].numpy()
        return out

    if peer == "batchgeneratorsv2":
        from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
        from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
        from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
        from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
        from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
        from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

        # It turns the output's grid, so the contents turn the other way.
        rotation = (lambda image, dim: AROUND_Z[dim] * angle) if fixed else (-0.52, 0.52)
        scaling = (1 / magnification,) * 2 if fixed else (0.7, 1.4)
        steps = [SpatialTransform(PATCH, 0, False, p_elastic_deform=0.0 if fixed else 1.0, p_rotation=1, rotation=rotation, p_scaling=1, scaling=scaling, p_synchronize_scaling_across_axes=1)]
        if detail == "full":
            every = {"synchronize_channels": False, "p_per_channel": 1}
            steps += [
                GaussianBlurTransform(blur_sigma=(0.5, 1.0), synchronize_axes=False, **every),
                GaussianNoiseTransform(noise_variance=(100, 900), p_per_channel=1, synchronize_channels=True),
                ContrastTransform(contrast_range=BGContrast((0.75, 1.25)), preserve_range=True, **every),
                SimulateLowResolutionTransform(scale=(0.5, 1), synchronize_axes=True, ignore_axes=(1, 2), allowed_channels=None, **every),
                GammaTransform(gamma=BGContrast((0.7, 1.5)), p_invert_image=0, p_retain_stats=1, **every),
            ]
        transform = ComposeTransforms(steps)

        def work():
            out = transform(image=image.clone(), segmentation=labels.to(torch.int16))
            return result(out["image"], out["segmentation"])

        return installed("batchgeneratorsv2"), work
    if peer == "MONAI":
        import monai.transforms as m

        keys, modes = ["image", "label"], ("bilinear", "nearest")
        if fixed:
            steps = [m.Affined(keys, rotate_params=(-angle, 0.0, 0.0), scale_params=(1 / magnification,) * 3, mode=modes, padding_mode="zeros")]
        else:
            steps = [m.Rand3DElasticd(keys, sigma_range=(5, 8), magnitude_range=(50, 150), prob=1, rotate_range=(0.52,) * 3, scale_range=(0.3,) * 3, mode=modes, padding_mode="zeros")]
        if detail == "full":
            steps += [
                m.RandGaussianSmoothd("image", prob=1, sigma_x=(0.5, 1), sigma_y=(0.5, 1), sigma_z=(0.5, 1)),
                m.RandGaussianNoised("image", prob=1, std=30),
                m.RandScaleIntensityd("image", factors=0.25, prob=1),
                m.RandSimulateLowResolutiond("image", prob=1, zoom_range=(0.5, 1)),
                m.RandAdjustContrastd("image", prob=1, gamma=(0.7, 1.5)),
            ]
        transform = m.Compose(steps)

        def work():
            out = transform({"image": image, "label": labels})
            return result(torch.as_tensor(out["image"]), torch.as_tensor(out["label"]))

        return installed("monai"), work
    import torchio

    if fixed:
        steps = [torchio.Affine(scales=magnification, degrees=(np.rad2deg(angle), 0, 0), translation=0, default_pad_value=0)]
    else:
        steps = [torchio.RandomAffine(scales=(0.7, 1.4), degrees=30, default_pad_value=0), torchio.RandomElasticDeformation(num_control_points=7, max_displacement=5, locked_borders=2)]
    if detail == "full":
        steps += [torchio.RandomBlur((0.5, 1)), torchio.RandomNoise(std=(10, 30)), torchio.RandomAnisotropy(axes=(0,), downsampling=(1, 2)), torchio.RandomGamma(log_gamma=(-0.3, 0.3))]
    transform = torchio.Compose(steps)

    def work():
        subject = torchio.Subject(image=torchio.ScalarImage(tensor=image), mask=torchio.LabelMap(tensor=labels))
        out = transform(subject)
        return result(out.image.data, out.mask.data)

    return installed("torchio"), work


AROUND_Z = (-1.0, 0.0, 0.0)

# Series.


def read(detail, peer, folder, threads):
    path = folder / "data" / "series" / detail
    if peer == "SimpleITK":
        import SimpleITK as sitk

        def work():
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
            return seen("hu", sitk.ReadImage(names, sitk.sitkInt16))

        return installed("SimpleITK"), work
    import pydicom

    def work():
        slices = [pydicom.dcmread(file) for file in path.iterdir()]
        slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
        hu = np.empty((len(slices), slices[0].Rows, slices[0].Columns), np.int16)
        for out, dataset in zip(hu, slices):
            np.multiply(dataset.pixel_array, int(dataset.RescaleSlope), out=out, casting="unsafe")
            out += int(dataset.RescaleIntercept)
        return {"hu": hu}

    return installed("pydicom"), work


# Statistics.


def froc(detail, peer, folder, threads):
    """The algorithm of the official LUNA16 evaluation, noduleCADEvaluationLUNA16.py: its loops, its containers and its order of
    work, written anew; with a seed, and without its files and plots."""
    import sklearn
    from sklearn.metrics import roc_curve

    data = folder / "data/statistics"
    with open(data / "seriesuids.csv") as lines:
        uids = [line.strip() for line in lines]

    def rows(name):
        by_scan = {uid: [] for uid in uids}
        with open(data / name) as lines:
            next(lines)
            for line in lines:
                uid, *numbers = line.strip().split(",")
                by_scan[uid].append([float(n) for n in numbers])
        return by_scan

    nodules, excluded, marks = rows("annotations.csv"), rows("annotations_excluded.csv"), rows("submission.csv")
    replicates, grid = 1000, np.linspace(0.125, 8.0, num=10000)

    def within(mark, finding):
        diameter = finding[3] if finding[3] >= 0 else 10.0
        apart = sum((a - b) ** 2 for a, b in zip(mark[:3], finding[:3]))
        return apart < (diameter / 2.0) ** 2

    def evaluate():
        truths, scores, scans, undetected = [], [], [], []
        for uid in uids:
            kept = dict(enumerate(marks[uid]))
            if len(kept) > 100:
                floor = sorted((mark[3] for mark in kept.values()), reverse=True)[100]
                kept = {i: mark for i, mark in kept.items() if mark[3] > floor}
            left = kept.copy()
            for finding in nodules[uid]:
                found = []
                for i, mark in kept.items():
                    if within(mark, finding):
                        found.append(mark[3])
                        left.pop(i, None)
                truths.append(1.0)
                scores.append(max(found) if found else -1000000000.0)
                scans.append(uid)
                undetected.append(not found)
            for finding in excluded[uid]:
                for i in [i for i, mark in left.items() if within(mark, finding)]:
                    del left[i]
            for mark in left.values():
                truths.append(0.0)
                scores.append(mark[3])
                scans.append(uid)
                undetected.append(False)
        return truths, scores, scans, undetected

    def points(truths, scores, n_scans, undetected):
        kept_truths, kept_scores = [], []
        for i in range(len(undetected)):
            if undetected[i] == False:  # noqa: E712, numbers in the bootstrap
                kept_truths.append(truths[i])
                kept_scores.append(scores[i])
        found, all_nodules = sum(kept_truths), sum(truths)
        false_rate, true_rate, _ = roc_curve(kept_truths, kept_scores)
        return false_rate * (len(kept_scores) - found) / n_scans, true_rate * found / all_nodules

    def work():
        truths, scores, scans, undetected = evaluate()
        fps, sens = points(truths, scores, len(uids), undetected)
        of_rates = {rate: np.interp(rate, fps, sens) for rate in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}
        table = np.array([truths, scores, undetected])
        of_scan = {}
        for i, uid in enumerate(scans):
            column = table[:, i : i + 1]
            of_scan[uid] = np.concatenate((of_scan[uid], column), axis=1) if uid in of_scan else np.copy(column)
        np.random.seed(0)
        names = np.asarray(uids)
        curves = np.zeros((replicates, len(grid)), dtype="float32")
        for replicate in range(replicates):
            drawn = None
            for uid in names[np.random.randint(len(names), size=len(names))]:
                if uid in of_scan:
                    drawn = np.copy(of_scan[uid]) if drawn is None else np.concatenate((drawn, of_scan[uid]), axis=1)
            curves[replicate] = np.interp(grid, *points(drawn[0], drawn[1], len(names), drawn[2]))
        limits = np.zeros((2, len(grid)))
        for i in range(len(grid)):
            values = np.sort(curves[:, i])
            limits[:, i] = values[int(0.025 * replicates)], values[int(0.975 * replicates)]
        out = {"cpm": np.mean(list(of_rates.values()))}
        for rate, value in of_rates.items():
            out[f"sensitivity at {rate:g}"] = value
            if rate in (0.125, 1.0, 8.0):
                place = int(np.argmin(np.abs(grid - rate)))
                out[f"lower limit at {rate:g}"], out[f"upper limit at {rate:g}"] = limits[:, place]
        return out

    return f"script, scikit-learn {sklearn.__version__}", work


def auc(detail, peer, folder, threads):
    data = folder / "data/statistics"
    truth = np.fromfile(data / "truth.u8", dtype=np.uint8).astype(bool)
    scores = np.fromfile(data / "scores.f64", dtype=np.float64)
    if peer == "scikit-learn":
        from sklearn.metrics import roc_auc_score

        return installed("scikit-learn"), lambda: {"auc": roc_auc_score(truth, scores)}

    def midranks(values):
        order = np.argsort(values, kind="stable")
        placed = values[order]
        first = np.concatenate(([True], placed[1:] != placed[:-1]))
        start = np.flatnonzero(first)
        size = np.diff(np.append(start, len(values)))
        ranks = np.empty(len(values))
        ranks[order] = np.repeat(start + (size + 1) / 2.0, size)
        return ranks

    def work():
        """DeLong's variance by midranks (Sun and Xu 2014), the fastest way there is in numpy."""
        positive, negative = scores[truth], scores[~truth]
        m, n = len(positive), len(negative)
        joint = midranks(np.concatenate((positive, negative)))
        of_positive = (joint[:m] - midranks(positive)) / n
        of_negative = 1.0 - (joint[m:] - midranks(negative)) / m
        return {"auc": of_positive.mean(), "variance": of_positive.var(ddof=1) / m + of_negative.var(ddof=1) / n}

    return installed("numpy"), work


def kappa(detail, peer, folder, threads):
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    ratings = np.fromfile(folder / "data/statistics/ratings.u8", dtype=np.uint8).reshape(-1, 3)

    def figures(ratings):
        out = {"fleiss": fleiss_kappa(aggregate_raters(ratings)[0])}
        for a, b in ((0, 1), (0, 2), (1, 2)):
            for kind, weights in (("plain", None), ("linear", "linear"), ("quadratic", "quadratic")):
                out[f"{kind} {a}-{b}"] = cohen_kappa_score(ratings[:, a], ratings[:, b], weights=weights)
        return out

    def work():
        out = figures(ratings)
        np.random.seed(0)
        drawn = [figures(ratings[np.random.randint(len(ratings), size=len(ratings))]) for _ in range(1000)]
        for name in list(out):
            values = sorted(figures[name] for figures in drawn)
            out[f"{name} lower"], out[f"{name} upper"] = values[25], values[975]
        return out

    return f"{installed('scikit-learn')}, statsmodels {installed('statsmodels')}", work


# The three networks: tests/peers/torch_nets.py has them in PyTorch, `net.onnx` is what the product exports.


def nets_onnx(kind, folder, threads):
    import json
    from pathlib import Path

    import onnxruntime

    data = Path(folder) / "data/nets" / kind
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(data / "net.onnx"), options, providers=["CPUExecutionProvider"])
    x = np.fromfile(data / "input.f32", dtype=np.float32).reshape(json.loads((data / "shape.json").read_text()))
    name = session.get_inputs()[0].name
    return onnxruntime.__version__, lambda: {"y": session.run(None, {name: x})[0].ravel()}


def nets(detail, peer, folder, threads):
    import json
    import os
    import sys
    from pathlib import Path

    if peer == "onnxruntime":
        return nets_onnx(detail.split("-")[0], folder, threads)

    import torch

    sys.path.insert(0, str(Path(__file__).parents[3] / "tests/peers"))
    import torch_nets

    torch.set_num_threads(threads)
    device = os.environ.get("LUNGAI_DEVICE", "cpu")
    half = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=os.environ.get("LUNGAI_PRECISION") == "bf16")
    kind, what = detail.split("-")
    data = Path(folder) / "data/nets" / kind
    net = torch_nets.build(kind, (data / "config.json").read_text())
    torch_nets.load_lungai(net, str(data / "weights.safetensors"))
    x = torch.from_numpy(np.fromfile(data / "input.f32", dtype=np.float32).reshape(json.loads((data / "shape.json").read_text())))
    net, x = net.to(device), x.to(device)

    def outputs():
        with half:
            y = net(x)
        return [y.float() for y in (y if isinstance(y, tuple) else (y,))]

    if what == "forward":
        net.eval()

        def forward():
            with torch.inference_mode():
                return {"y": outputs()[0].cpu().numpy().ravel()}

        return torch.__version__, forward
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.0)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = sum(y.square().mean() for y in outputs())
        loss.backward()
        norm = sum(p.grad.square().sum().item() for p in net.parameters()) ** 0.5
        optimiser.step()
        return {"loss": loss.item(), "gradient norm": norm}

    return torch.__version__, step


# Pages of the trace from requirements, tests and links. Both are programs: each run is a process of its own, as ours is.


def trace(detail, peer, folder, threads):
    import shutil
    import subprocess
    import sys

    place, out = folder / "data/trace" / detail, folder / "data/trace" / detail / f"{peer}-pages"
    if peer == "StrictDoc":
        source = place / "strictdoc"
        command = [sys.executable, "-m", "strictdoc.cli.main", "export", str(source), "--output-dir", str(out)]
    else:
        source = place / "doorstop"
        command = [sys.executable, "-m", "doorstop.cli.main", "publish", "--html", "all", str(out)]

    def work():
        shutil.rmtree(out, ignore_errors=True)  # no cache of an earlier run
        subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
        return {}

    return installed(peer.lower()), work
