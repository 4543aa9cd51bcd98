"""LightningDataModules, one data set per file, and the augmentation they share."""
