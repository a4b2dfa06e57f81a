"""The checks, one module per subject. `launch.doctor.table` lists them. None of them starts a job."""
