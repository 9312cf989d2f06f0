"""The ways of an array from its files to slots, one file each; `feedline.paging.pagein` chooses among them."""
