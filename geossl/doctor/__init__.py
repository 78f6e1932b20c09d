"""``geossl doctor``: looks at everything a run rests on, and says what to do about what is wrong."""
