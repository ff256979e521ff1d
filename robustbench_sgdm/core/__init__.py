"""What every room uses: errors, constants, boxes, seeds, safe reading and writing of files, versions."""
