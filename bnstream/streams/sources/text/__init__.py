"""Tables in text. Each module turns what it is given into what the next one reads:

    places/file.py -> compressed.py -> content.py (UTF-8) -> rowtext.py (whole rows) -> parsing.py (pyarrow) -> csv.py
                                       jsonlist.py (a list as JSON lines)                                       jsonl.py

`dialect.py` and `header.py` hold the options; `lines.py` and `faults.py` find the line and the value of an error.
"""
