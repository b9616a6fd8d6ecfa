"""The report of several runs, a study or another tool's files: one page that needs nothing but itself."""

from analysis.reports.gathered import Gathered, gather, is_one_run
from analysis.reports.page import content, page, write_page

__all__ = ["Gathered", "content", "gather", "is_one_run", "page", "write_page"]
