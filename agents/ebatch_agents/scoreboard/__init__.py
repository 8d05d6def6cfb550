"""`ebatch scoreboard`: agents trained anew, beside all tuned baselines on fresh episodes; and `ebatch verify`.

| module | what it does |
|---|---|
| `settings` | what to do, and how much of it |
| `entrants` | the baselines that play, and which of them is the best tuned one |
| `transfer` | the conditions off the training distribution |
| `statistics`, `summary` | from records to figures: the same code for the scoreboard and its verification |
| `learned` | what the agent decides where, beside E-BATCH |
| `build` | trains, exports, evaluates, writes |
| `board` | the files |
| `charts`, `page` | pictures and the page, from the files |
| `verify`, `comparison`, `agent_files` | checks the files |

Only `build` needs torch.
"""
