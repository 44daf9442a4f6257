"""From designs and problems to fields and functionals by an mGNO; weights files with their cards."""
