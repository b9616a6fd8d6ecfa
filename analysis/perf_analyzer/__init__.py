"""perf_analyzer's files: our points written as its CSV, and what it left read into the tables of a native run."""

from analysis.perf_analyzer.export import csv_text, header, write_csv

__all__ = ["csv_text", "header", "write_csv"]
