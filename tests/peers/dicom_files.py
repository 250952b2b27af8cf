"""Makes crates/lungai-dicom/tests/files for lungai-dicom's `files_of_other_programs_make_their_volumes` and for the mutation
test: one Legacy Converted Enhanced CT object by highdicom in the transfer syntaxes that pydicom and GDCM can write.
Prints sha256 of the HU (i16 little endian, slices ascending) as pydicom reads them.
Needs pydicom, highdicom, pylibjpeg[all], pyjpegls and python-gdcm."""
import hashlib
import os
import sys
import gdcm
import highdicom
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

folder = sys.argv[1]


def uid(number):
    return f"2.25.33300{number}"


def slice_(k):
    """Slice k of 5; k also says its height, and the intercept changes with it."""
    j, i = np.indices((32, 40))
    stored = (300 * k + 20 * j + 7 * i + (i * j * (k + 1)) % 13).astype(np.uint16)
    d = pydicom.Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = pydicom.uid.CTImageStorage, uid(100 + k)
    d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = uid(1), uid(2), uid(3)
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "Synthetic^", "SYNTHETIC", "", ""
    d.StudyDate, d.StudyTime, d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = "20200101", "000000", "1", "", ""
    d.ContentDate, d.ContentTime = "20200101", "000000"
    d.Modality, d.Manufacturer, d.ImageType = "CT", "LungAI", ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber, d.PatientPosition = 1, k + 1, 1, "HFS"
    d.PositionReferenceIndicator = ""
    d.ImagePositionPatient, d.ImageOrientationPatient = [-20.5, -16.25, 2.5 * k], [1, 0, 0, 0, 1, 0]
    d.PixelSpacing, d.SliceThickness, d.KVP = [0.8, 0.9], 2.5, 120
    d.SamplesPerPixel, d.PhotometricInterpretation, d.Rows, d.Columns = 1, "MONOCHROME2", 32, 40
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.RescaleSlope, d.RescaleIntercept, d.RescaleType = 1, -1024 - k, "HU"
    d.PixelData = stored.tobytes()
    return d


def new():
    # Not in the order of their heights.
    return highdicom.legacy.LegacyConvertedEnhancedCTImage([slice_(k) for k in [3, 0, 4, 1, 2]], uid(4), 1, uid(5), 1)


def save(dataset, name):
    dataset.save_as(os.path.join(folder, name), enforce_file_format=True)


def compressed(name, syntax, **options):
    dataset = new()
    dataset.compress(UID(syntax), **options, generate_instance_uid=False)
    save(dataset, name)


save(new(), "explicit.dcm")
compressed("rle.dcm", "1.2.840.10008.1.2.5")
compressed("jpeg_ls.dcm", "1.2.840.10008.1.2.4.80")
compressed("jpeg_ls_near.dcm", "1.2.840.10008.1.2.4.81", jls_error=2)
compressed("jpeg_2000.dcm", "1.2.840.10008.1.2.4.90")
compressed("jpeg_2000_lossy.dcm", "1.2.840.10008.1.2.4.91", j2k_cr=[4])
for name, syntax in [
    ("jpeg_lossless_57.dcm", gdcm.TransferSyntax.JPEGLosslessProcess14),
    ("jpeg_lossless_70.dcm", gdcm.TransferSyntax.JPEGLosslessProcess14_1),
]:
    reader = gdcm.ImageReader()
    reader.SetFileName(os.path.join(folder, "explicit.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    if not change.Change():
        print("GDCM cannot write", name)
        continue
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(os.path.join(folder, name))
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    # GDCM drops the rescale of each frame: only its pixels are taken.
    dataset, packed = new(), pydicom.dcmread(os.path.join(folder, name))
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = packed.PixelData, packed.file_meta.TransferSyntaxUID
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    save(dataset, name)

for name in sorted(os.listdir(folder)):
    d = pydicom.dcmread(os.path.join(folder, name))
    frames = d.pixel_array.astype(np.int32)
    order = sorted(
        range(len(frames)), key=lambda n: d.PerFrameFunctionalGroupsSequence[n].PlanePositionSequence[0].ImagePositionPatient[2]
    )
    hu = []
    for n in order:
        values = d.PerFrameFunctionalGroupsSequence[n].PixelValueTransformationSequence[0]
        hu.append(frames[n] * int(values.RescaleSlope) + int(values.RescaleIntercept))
    hu = np.array(hu).astype("<i2")
    print(f'("{name}", "{d.file_meta.TransferSyntaxUID}", "{hashlib.sha256(hu.tobytes()).hexdigest()}"),')
