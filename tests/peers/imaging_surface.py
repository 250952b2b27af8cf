"""PyRadiomics' answer for lungai-imaging's `shapes_equal_pyradiomics`. Needs pyradiomics, SimpleITK and numpy < 2."""
import logging
import numpy as np
import radiomics.shape
import SimpleITK as sitk

logging.disable(logging.CRITICAL)
z, y, x = np.indices((25, 25, 25)) - 12
shapes = {
    "ball": z**2 + y**2 + x**2 <= 100,
    "ellipsoid": (z / 5) ** 2 + (y / 8) ** 2 + (x / 11) ** 2 <= 1,
    "lobed": (z**2 + y**2 + (x - 4) ** 2 <= 36) | (z**2 + (y - 5) ** 2 + (x + 4) ** 2 <= 20) | ((z - 5) ** 2 + y**2 + x**2 <= 9),
}
for name, mask in shapes.items():
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((0.7, 0.7, 1.25))
    found = radiomics.shape.RadiomicsShape(sitk.Cast(image, sitk.sitkFloat32), image)
    print(name, found.getMeshVolumeFeatureValue(), found.getSurfaceAreaFeatureValue(), found.getSphericityFeatureValue())
