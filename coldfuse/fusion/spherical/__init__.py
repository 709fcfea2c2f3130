"""Methods that follow the geometry of the models: angles and spheres, from their inner products."""
