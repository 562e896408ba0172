"""Where raw examples come from: every source becomes datasets with the same column names."""
