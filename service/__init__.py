"""The campaign as a service: from a campaign file to a defect that is right, over the oracles and the record."""
