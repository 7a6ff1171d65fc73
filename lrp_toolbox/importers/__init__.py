"""Networks trained elsewhere, from the files their frameworks wrote, without the frameworks."""
