# SPDX-License-Identifier: GPL-2.0
#
# Entries of the kernel's MAINTAINERS file.
#
#   mode=merge OURS THEIRS   THEIRS with the entries of OURS merged in
#   mode=new OLD NEW         the entries that only NEW has
#
# An entry is a paragraph whose second line looks like "M:<tab>..."; its first
# line is the title. Titles are compared in upper case, "THE REST" is last, as
# scripts/parse-maintainers.pl of the kernel does.

function sort_key(title)
{
	title = toupper(title)
	if (title == "THE REST")
		return "\177"
	return title
}

function is_entry(text,    line)
{
	return split(text, line, "\n") > 1 && line[2] ~ /^[A-Z]:\t/
}

function title_of(text,    line)
{
	split(text, line, "\n")
	return line[1]
}

BEGIN {
	RS = ""
	n = 0
	m = 0
}

# First file.
FNR == NR {
	if (is_entry($0)) {
		if (mode == "merge")
			ours[++n] = $0
		else
			old[$0] = 1
	}
	next
}

# Second file.
mode == "new" {
	if (is_entry($0) && !($0 in old)) {
		printf "%s%s\n", (n++ ? "\n" : ""), $0
	}
	next
}

{
	theirs[++m] = $0
}

function insert(text,    i, key, before, best, at)
{
	key = sort_key(title_of(text))
	# Wrong neighbours if the entry came first of all.
	before = 0
	for (i = 1; i <= m; i++)
		if (is_entry(theirs[i]) && sort_key(title_of(theirs[i])) < key)
			before++
	best = -1
	at = m + 1
	for (i = 1; i <= m + 1; i++) {
		if ((i > m || is_entry(theirs[i])) && (best < 0 || before < best)) {
			best = before
			at = i
		}
		if (i <= m && is_entry(theirs[i])) {
			if (sort_key(title_of(theirs[i])) < key)
				before--
			else
				before++
		}
	}
	for (i = m; i >= at; i--)
		theirs[i + 1] = theirs[i]
	theirs[at] = text
	m++
}

END {
	if (mode != "merge")
		exit
	for (i = 1; i <= n; i++)
		insert(ours[i])
	for (i = 1; i <= m; i++)
		printf "%s%s\n", (i > 1 ? "\n" : ""), theirs[i]
}
