"""All planted bugs."""

from tests.planted import bugs_of_archiving, bugs_of_deleting, bugs_of_finding

BUGS = (*bugs_of_archiving.BUGS, *bugs_of_deleting.BUGS, *bugs_of_finding.BUGS)
