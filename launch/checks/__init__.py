"""What the doctor looks at before money is spent, a module for each part. Nothing here starts a job."""
