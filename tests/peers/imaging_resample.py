"""SimpleITK's answer for lungai-imaging's `refining_equals_simpleitk`. Needs SimpleITK and numpy."""
import numpy as np
import SimpleITK as sitk

index = np.arange(60).reshape(3, 4, 5)
hu = (index * 7919 % 2000 - 1000).astype(np.float64)  # on integers SimpleITK would cut off the fraction
labels = (index % 7).astype(np.uint8)
for name, array, interpolator, outside in [("linear", hu, sitk.sitkLinear, -1024), ("nearest", labels, sitk.sitkNearestNeighbor, 0)]:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 0.7, 2.5))
    image.SetOrigin((10.0, -20.0, 30.0))
    out = sitk.Resample(image, (4, 4, 4), sitk.Transform(), interpolator, (9.71, -19.93, 29.37), (0.65, 0.6, 1.1), (1, 0, 0, 0, 1, 0, 0, 0, 1), outside)
    print(name, np.floor(sitk.GetArrayFromImage(out).ravel() + 0.5).astype(int).tolist())
# `a_spline_equals_simpleitk`: refined and, without antialiasing, shrunk.
image = sitk.GetImageFromArray(hu)
image.SetSpacing((0.9, 0.7, 2.5))
image.SetOrigin((10.0, -20.0, 30.0))
for spacing, size in [((0.65, 0.6, 1.1), (4, 4, 4)), ((1.7, 1.5, 2.6), (2, 2, 2))]:
    out = sitk.Resample(image, size, sitk.Transform(), sitk.sitkBSpline3, (9.71, -19.93, 29.37), spacing, (1, 0, 0, 0, 1, 0, 0, 0, 1), -1024)
    print("spline", spacing, np.floor(sitk.GetArrayFromImage(out).ravel() + 0.5).astype(int).tolist())
