"""Jobs on a Ray cluster: the driver's side (`connection`, `crew`, `dispatch`) and the workers' (`worker`, `kept`), with the
parcels that go between them. Above the pipeline; imported by the Ray backend and `wan2-i2v cluster`. Ray is imported when it is
used: it is an extra."""
