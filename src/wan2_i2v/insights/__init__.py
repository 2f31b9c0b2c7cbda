"""What was learned from runs: a local database of them (`book`), figures with intervals (`figures`), a report, sharing.

Leaves without torch. Imported by the layer that runs jobs (it notes each run) and by doors.
"""
