"""Makes crates/lungai-datasets/tests/files with other programs and prints what SimpleITK (nibabel for NIfTI-2)
reads from them, for lungai-datasets' `files_of_other_programs_hold_what_they_read_themselves`. Needs nibabel, pynrrd and SimpleITK."""
import gzip
import os
import sys
import nibabel
import nrrd
import numpy as np
import SimpleITK as sitk

folder = sys.argv[1]
voxels = (np.arange(24).reshape(2, 3, 4) * 7 - 40).astype(np.int16)  # [i, j, k]
turn = 0.3
rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])


def at(name):
    return os.path.join(folder, name)


def nifti(name, kind, dtype, endian, columns, sform, scale=None):
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns)
    affine[:3, 3] = [10.5, -20.25, 30.125]
    header = kind.header_class(endianness=endian)
    header.set_data_dtype(dtype)
    header.set_data_shape(voxels.shape)
    header.set_xyzt_units("mm")
    header.set_qform(affine, 0 if sform else 1)
    header.set_sform(affine, 2 if sform else 0)
    if scale:
        header.set_slope_inter(*scale)
    header["vox_offset"] = 352 if kind is nibabel.Nifti1Image else 544
    data = voxels.astype(np.dtype(dtype).newbyteorder(endian)).tobytes(order="F")
    raw = header.binaryblock + b"\0\0\0\0" + data
    with open(at(name), "wb") as file:
        file.write(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)


# Left-handed axes: the third quaternion column is turned by qfac.
flipped = rotation @ np.diag([0.5, 0.75, -2.0])
nifti("big_endian_qform.nii.gz", nibabel.Nifti1Image, np.int16, ">", flipped, False, (2.0, -1000.0))
nifti("nifti2_sform.nii.gz", nibabel.Nifti2Image, np.float64, "<", rotation @ np.diag([-0.5, 0.75, 2.0]), True)
nifti("nifti2_big_endian.nii.gz", nibabel.Nifti2Image, np.int32, ">", np.diag([0.5, -0.75, 2.0])[:, [2, 0, 1]], True)

image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
image.SetSpacing((0.5, 0.75, 2.0))
image.SetOrigin((10.5, -20.25, 30.125))
image.SetDirection((rotation @ np.diag([1, 1, -1])).ravel())
sitk.WriteImage(image, at("itk_zraw.mhd"), useCompression=True)
sitk.WriteImage(image, at("itk_raw.mhd"), useCompression=False)
sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), at("itk_float.mha"), useCompression=True)
sitk.WriteImage(image, at("itk_gzip.nrrd"), useCompression=True)
sitk.WriteImage(image, at("itk_raw.nhdr"), useCompression=False)
nrrd.write(
    at("pynrrd_ras_big_endian.nrrd"),
    voxels.astype(">i2"),
    {
        "space": "right-anterior-superior",
        "space directions": (rotation @ np.diag([0.5, 0.75, 2.0])).T,
        "space origin": [10.5, -20.25, 30.125],
        "encoding": "gzip",
    },
)

for name in sorted(os.listdir(folder)):
    if name.endswith((".nii.gz", ".mhd", ".mha", ".nrrd", ".nhdr")):
        rows = []
        for index in [(0, 0, 0), (1, 2, 3), (1, 0, 0), (0, 2, 1)]:
            if name.startswith("nifti2"):  # SimpleITK does not read it
                image = nibabel.load(at(name))
                point, value = np.diag([-1, -1, 1]) @ (image.affine @ [*index, 1])[:3], image.get_fdata()[index]
            else:
                image = sitk.ReadImage(at(name))
                point, value = image.TransformIndexToPhysicalPoint(index), image[index]
            rows.append(f"([{', '.join(f'{v:.5f}' for v in point)}], {value:.1f})")
        print(f'("{name}", [{", ".join(rows)}]),')
