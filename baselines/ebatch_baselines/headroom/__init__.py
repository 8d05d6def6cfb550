"""How far E-BATCH is from what is possible, scenario by scenario: ``ebatch headroom``.

* `study`: the search, the episodes, the bound, and the figures that follow;
* `page`: tables and the page; `chart`: the picture.
"""
